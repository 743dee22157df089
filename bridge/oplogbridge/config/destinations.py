"""Where a pipeline will write, as far as the configuration tells: two must not share a Redis stream or a file. Pure.

Equal templates on equal servers are found here. Templates over `{type}` that meet only for some types are not: the
sinks notice a foreign writer at run time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pydantic import SecretStr

from oplogbridge.config.problems import Path, Problem, path_text
from oplogbridge.config.settings import SinkChoice
from oplogbridge.redis_nodes.address import redis_address

_CONSTANT = re.compile(r"\{\{|\}\}|\{source\}|\{pipeline\}")
_BELONGS_TO_ONE = {"redis": "stream", "file": "file"}


def shared_destinations(choices: Mapping[tuple[str, str], SinkChoice], sources: Mapping[str, str]) -> list[Problem]:
    """The mistakes among the sinks of all pipelines.

    `choices` are by (pipeline, "sink" or "dead_letter"); `sources` gives each pipeline's source.
    """
    problems: list[Problem] = []
    first: dict[str, Path] = {}  # by destination: who writes there
    for (pipeline, role), choice in choices.items():
        here, live = (_place_of(choices, sources, pipeline, which) for which in (role, "sink"))
        path = ("pipelines", pipeline, role)
        if here is None:
            continue
        if role != "sink" and here == live:
            problems.append(Problem(path, "is the place that the pipeline itself writes to: give it another"))
        elif choice.kind in _BELONGS_TO_ONE:
            other = first.setdefault(here, path)
            if other != path:
                what = _BELONGS_TO_ONE[choice.kind]
                text = f"writes to the same {what} as {path_text(other)}: a {what} belongs to one pipeline"
                problems.append(Problem(path, text))
    return problems


def _place_of(
    choices: Mapping[tuple[str, str], SinkChoice], sources: Mapping[str, str], pipeline: str, role: str
) -> str | None:
    choice = choices.get((pipeline, role))
    if choice is None:
        return None
    return destination_of(choice, source=sources.get(pipeline, ""), pipeline=pipeline)


def destination_of(choice: SinkChoice, *, source: str, pipeline: str) -> str | None:
    """A text that is equal for equal places; None for a kind whose places this cannot tell."""

    def filled(template: object) -> str:
        constants = {"{source}": source, "{pipeline}": pipeline}
        return _CONSTANT.sub(lambda found: constants.get(found.group(), found.group()), str(template))

    settings = choice.settings
    if choice.kind == "redis":
        return f"redis {_redis_server(settings.url)} {filled(settings.stream)}"
    if choice.kind == "file":
        return f"file {os.path.abspath(filled(settings.path))}"  # noqa: PTH100  # Path.absolute() keeps `..`
    if choice.kind == "kafka":
        return f"kafka {settings.bootstrap_servers} {filled(settings.topic)}"
    return None


def _redis_server(url: str | SecretStr) -> str:
    address = redis_address(url.get_secret_value() if isinstance(url, SecretStr) else url)
    return f"{','.join(sorted(map(str, address.servers)))}/{address.service or ''}/{address.database}"
