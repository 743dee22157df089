"""Plain data becomes `Settings`, or one `ConfigError` with every mistake. Pure but for importing the sinks named."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from oplogbridge import plugins
from oplogbridge.config.cautions import warnings_of
from oplogbridge.config.cross_checks import cross_check
from oplogbridge.config.merge import contains, with_defaults, without_empty
from oplogbridge.config.problems import REQUIRED, Hidden, Path, Problem, of_validation
from oplogbridge.config.secrecy import secrets_of, without_secrets
from oplogbridge.config.settings import PipelineSettings, Settings, SinkChoice
from oplogbridge.config.substitution import Substituted
from oplogbridge.errors import ConfigError
from oplogbridge.sink import SinkPlugin

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
    check = _Check(data, hidden=_hidden_everywhere(substituted.hidden, data), broken=substituted.broken)
    settings = check.settings()
    problems = [*earlier, *substituted.problems, *check.real_problems()]
    if settings is None or problems:
        places = {problem: _place(problem.path, data) for problem in problems}
        problems = sorted(dict.fromkeys(problems), key=places.__getitem__)
        problems = without_secrets(problems, secrets_of(data) | substituted.file_contents, check.hidden)
        raise ConfigError(title, [problem.line() for problem in problems])
    return Loaded(settings, tuple(warning.line() for warning in warnings_of(settings)))


@dataclass(slots=True)
class _Check:
    data: dict[str, Any]
    hidden: Hidden
    broken: Collection[Path]
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
            self._problems += of_validation(error, model=Settings, data=data, prefix=(), hidden=self.hidden)
        if isinstance(own, dict):
            sources = data["sources"] if isinstance(data["sources"], dict) else {}
            self._problems += cross_check(sources, merged, self._choices, self.hidden)
        return settings

    def real_problems(self) -> list[Problem]:
        """Without what follows only from a value that could not be substituted, or from a mistake in `defaults`."""
        return [problem for problem in self._problems if not self._follows(problem.path)]

    def _follows(self, path: Path) -> bool:
        if any(_related(path, broken) for broken in self.broken):
            return True
        if path[:1] != ("pipelines",) or len(path) < 3:
            return False
        own = self.data["pipelines"][path[1]] or {}
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


def _hidden_everywhere(hidden: Hidden, data: dict[str, Any]) -> Hidden:
    """`hidden`, with that of `defaults` at the same places of every pipeline."""
    pipelines = data.get("pipelines")
    below = {path[1:]: pieces for path, pieces in hidden.items() if path[:1] == ("defaults",)}
    everywhere = dict(hidden)
    for name in pipelines if isinstance(pipelines, dict) and below else ():
        for path, pieces in below.items():
            at = ("pipelines", name, *path)
            everywhere[at] = pieces | everywhere.get(at, frozenset())
    return everywhere


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
