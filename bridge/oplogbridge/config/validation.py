"""Plain data becomes `Settings`, or one `ConfigError` with every mistake. Pure but for importing the sinks named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from oplogbridge import plugins
from oplogbridge.config.cautions import warnings_of
from oplogbridge.config.destinations import shared_destinations
from oplogbridge.config.merge import contains, with_defaults, without_empty
from oplogbridge.config.problems import REQUIRED, Path, Problem, of_validation
from oplogbridge.config.secrecy import secrets_of, without_secrets
from oplogbridge.config.settings import PipelineSettings, Settings, SinkChoice
from oplogbridge.config.source_urls import check_source_url, normal_source_url
from oplogbridge.config.substitution import Substituted
from oplogbridge.errors import ConfigError
from oplogbridge.nearest import hint
from oplogbridge.sink import SinkPlugin

SUGGESTIONS_MAX = 20  # comparing a thousand wrong names with a thousand right ones takes a minute
SINK_KEYS = ("sink", "dead_letter")
_NO_PLUGIN: Any = None
_NOTHING = SinkChoice("", _NO_PLUGIN, None)  # stands for one that was refused already


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without a mistake. A warning is a line like a mistake's, that may be what was wanted."""

    settings: Settings
    warnings: tuple[str, ...] = ()


def validate(substituted: Substituted, title: str, earlier: Sequence[Problem] = ()) -> Loaded:
    """`substituted.data` as settings. `earlier` are the mistakes of reading and merging, reported with the others.

    Raises:
        ConfigError: Every mistake that was found, in the order of the data.
    """
    data = substituted.data if isinstance(substituted.data, dict) else {}
    check = _Check(data, hidden=substituted.hidden, broken=substituted.broken)
    settings = check.settings()
    problems = [*earlier, *substituted.problems, *check.real_problems()]
    if settings is None or problems:
        places = {problem: _place(problem.path, data) for problem in problems}
        problems = without_secrets(
            sorted(dict.fromkeys(problems), key=places.__getitem__), secrets_of(data) | substituted.file_contents
        )
        raise ConfigError(title, [problem.line() for problem in problems])
    return Loaded(settings, tuple(warning.line() for warning in warnings_of(settings)))


@dataclass(slots=True)
class _Check:
    data: dict[str, Any]
    hidden: Collection[Path] = ()
    broken: Collection[Path] = ()
    _problems: list[Problem] = field(default_factory=list)
    _plugins: dict[str, SinkPlugin | str] = field(default_factory=dict)
    _choices: dict[tuple[str, str], SinkChoice] = field(default_factory=dict)
    _bad_defaults: set[Path] = field(default_factory=set)  # below `defaults`; reported there, not in each pipeline

    def settings(self) -> Settings | None:
        data = without_empty({**self.data, "sources": self._named("sources"), "pipelines": {}, "defaults": {}})
        own = self._named("pipelines")
        merged = own if not isinstance(own, dict) else self._merged_pipelines(own)
        data["pipelines"] = merged
        settings: Settings | None = None
        try:
            settings = Settings.model_validate(data)
        except ValidationError as error:
            hidden = self._hidden_everywhere(own)
            self._problems += of_validation(error, model=Settings, data=data, prefix=(), hidden=hidden)
        if isinstance(own, dict):
            self._cross_check(data.get("sources"), merged)
        return settings

    def real_problems(self) -> list[Problem]:
        """Without what follows only from a value that could not be substituted, or from a mistake in `defaults`."""
        return [problem for problem in self._problems if not self._follows(problem.path)]

    def _follows(self, path: Path) -> bool:
        if any(_related(path, broken) for broken in self.broken):
            return True
        if path[:1] != ("pipelines",) or len(path) < 3:
            return False
        own = self.data["pipelines"][path[1]]
        return any(_related(path[2:], bad) and not contains(own, bad) for bad in self._bad_defaults)

    def _named(self, key: str) -> Any:
        """`sources` or `pipelines`; one without a value (`shop:`) is there, and lacks everything."""
        named = self.data.get(key)
        if not isinstance(named, dict):
            return {} if named is None else named
        return {name: {} if value is None else value for name, value in named.items()}

    def _merged_pipelines(self, own: dict[str, Any]) -> dict[str, Any]:
        defaults = self._defaults()
        merged: dict[str, Any] = {}
        for name, value in own.items():
            if not isinstance(value, dict):
                merged[name] = value
                continue
            pipeline = merged[name] = without_empty(with_defaults(value, defaults))
            for key in SINK_KEYS:
                if key in pipeline:
                    choice = self._sink(pipeline[key], ("pipelines", name, key), self._problems)
                    pipeline[key] = choice
                    if choice is not _NOTHING:
                        self._choices[name, key] = choice
        if not own:
            self._problems.append(Problem(("pipelines",), "at least one pipeline is required"))
        return merged

    def _defaults(self) -> dict[str, Any]:
        """What is laid under each pipeline. Its mistakes are found here, so that they are reported once."""
        defaults = self.data.get("defaults")
        if defaults is None:
            return {}
        if not isinstance(defaults, dict):
            self._problems.append(Problem(("defaults",), "must be a mapping (key: value)"))
            return {}
        self._bad_defaults |= {path[1:] for path in self.broken if path[:1] == ("defaults",)}
        found: list[Problem] = []
        checked = without_empty(defaults)
        for key in SINK_KEYS:
            if isinstance(checked.get(key), dict) and "kind" not in checked[key]:
                checked[key] = _NOTHING  # completed, and then checked, in each pipeline
            elif key in checked:
                checked[key] = self._sink(checked[key], ("defaults", key), found)
        try:
            PipelineSettings.model_validate(checked)
        except ValidationError as error:
            found += of_validation(
                error, model=PipelineSettings, data=checked, prefix=("defaults",), hidden=self.hidden
            )
        found = [problem for problem in found if problem.text != REQUIRED]
        self._bad_defaults |= {problem.path[1:] for problem in found}
        self._problems += found
        return defaults

    def _sink(self, data: Any, path: Path, problems: list[Problem]) -> SinkChoice:
        if not isinstance(data, dict):
            problems.append(Problem(path, "must be a mapping with a kind, and the keys of that sink"))
            return _NOTHING
        kind = data.get("kind")
        if not isinstance(kind, str):
            wrong = REQUIRED if kind is None else "must be text"
            problems.append(Problem((*path, "kind"), f"{wrong} (allowed: {', '.join(plugins.sink_kinds())})"))
            return _NOTHING
        plugin = self._plugin(kind)
        if isinstance(plugin, str):
            shown = plugin if (*path, "kind") not in self.hidden else "names no sink that is installed"
            problems.append(Problem((*path, "kind"), shown))
            return _NOTHING
        keys = {key: value for key, value in data.items() if key != "kind"}
        try:
            return SinkChoice(kind, plugin, plugin.settings.model_validate(keys))
        except ValidationError as error:
            problems += of_validation(error, model=plugin.settings, data=keys, prefix=path, hidden=self.hidden)
        except Exception as error:  # a third party's validator; what it says may hold anything
            problems.append(Problem(path, f"could not be checked by the sink: {type(error).__name__}"))
        return _NOTHING

    def _plugin(self, kind: str) -> SinkPlugin | str:
        if kind not in self._plugins:
            try:
                self._plugins[kind] = plugins.load_plugin(kind)
            except ConfigError as error:
                self._plugins[kind] = "; ".join(error.problems)
        return self._plugins[kind]

    def _hidden_everywhere(self, own: Any) -> set[Path]:
        below = [path[1:] for path in self.hidden if path[:1] == ("defaults",)]
        names = own if isinstance(own, dict) else ()
        return {*self.hidden, *(("pipelines", name, *path) for name in names for path in below)}

    def _cross_check(self, sources: Any, pipelines: Mapping[str, Any]) -> None:
        """What no single key shows."""
        known: dict[str, Any] = sources if isinstance(sources, dict) else {}
        self._problems += _sources_polled_twice(known)
        unknown = 0
        source_of: dict[str, str] = {}
        for name, pipeline in pipelines.items():
            if not isinstance(pipeline, dict):
                continue
            source = pipeline.get("source")
            if isinstance(source, str):
                source_of[name] = source
                if source not in known:
                    unknown += 1
                    path = ("pipelines", name, "source")
                    self._problems.append(self._unknown_source(source, known, path, suggest=unknown <= SUGGESTIONS_MAX))
                else:
                    self._problems += _subjects_of_others(name, source, pipeline.get("filter"))
            if pipeline.get("on_rejected") == "dead_letter" and "dead_letter" not in pipeline:
                text = "is required with on_rejected: dead_letter (a sink: kind, and its keys)"
                self._problems.append(Problem(("pipelines", name, "dead_letter"), text))
        self._problems += shared_destinations(self._choices, source_of)

    def _unknown_source(self, source: str, known: Mapping[str, Any], path: Path, *, suggest: bool) -> Problem:
        if path in self.hidden or not suggest:
            return Problem(path, "names no source")
        return Problem(path, f'unknown source "{source[:100]}"{hint(source, list(known))}')


def _sources_polled_twice(sources: Mapping[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    for key, why in (("url", "one source is polled once"), ("id", "an id names one source")):
        first: dict[str, str] = {}
        for name, source in sources.items():
            value = source.get(key) if isinstance(source, dict) else None
            if key == "url":
                value = _normal_or_none(value)
            if isinstance(value, str) and value and first.setdefault(value, name) != name:
                other = Problem(("sources", first[value], key), "").line().removesuffix(": ")
                problems.append(Problem(("sources", name, key), f"is the same as {other}: {why}"))
    return problems


def _normal_or_none(value: object) -> str | None:
    try:
        check_source_url(value)
    except ValueError:
        return None
    return normal_source_url(value) if isinstance(value, str) else None


def _subjects_of_others(pipeline: str, source: str, wanted: Any) -> list[Problem]:
    """A pattern of another source's events would let nothing pass, ever, and the offset would go on."""
    subjects = wanted.get("subjects") if isinstance(wanted, dict) else None
    if not isinstance(subjects, list) or "." in source:
        return []
    return [
        Problem(
            ("pipelines", pipeline, "filter", "subjects", index),
            f'lets nothing pass: the subjects of this source begin with "{source}."',
        )
        for index, pattern in enumerate(subjects)
        if isinstance(pattern, str) and pattern.split(".")[0] not in (source, "*", ">")
    ]


def _related(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return shorter > 0 and one[:shorter] == other[:shorter]


def _place(path: Path, data: Any) -> tuple[int, ...]:
    """Where a path is in the data, so that mistakes can be listed in the order of the file."""
    place: list[int] = []
    for segment in path:
        if isinstance(data, dict):
            place.append(list(data).index(segment) if segment in data else len(data))
            data = data.get(segment)
        elif isinstance(data, list) and isinstance(segment, int):
            place.append(segment)
            data = data[segment] if segment < len(data) else None
        else:
            break
    return tuple(place)
