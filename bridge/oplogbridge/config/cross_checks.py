"""Mistakes that no single key shows: names that lead nowhere, one thing said twice. Pure.

These look at the raw data, so that they are found together with every other mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from oplogbridge.config.checks import check_subject
from oplogbridge.config.destinations import shared_destinations
from oplogbridge.config.problems import Hidden, Problem, path_text
from oplogbridge.config.settings import SinkChoice
from oplogbridge.config.source_urls import api_of, check_source_url, normal_source_url
from oplogbridge.nearest import hint
from oplogbridge.templates import token

SUGGESTIONS_MAX = 20  # comparing a thousand wrong names with a thousand right ones takes a minute


def cross_check(
    sources: Mapping[str, Any],
    pipelines: Mapping[str, Any],
    choices: Mapping[tuple[str, str], SinkChoice],
    hidden: Hidden,
) -> Iterator[Problem]:
    """The mistakes between sources and pipelines. `choices` are the checked sinks by pipeline and key."""
    yield from _polled_twice(sources)
    whole = {name: pipeline for name, pipeline in pipelines.items() if isinstance(pipeline, dict)}
    yield from _unknown_sources(sources, whole, hidden)
    for name, pipeline in whole.items():
        source = pipeline.get("source")
        if isinstance(source, str) and source in sources:
            yield from _subjects_of_others(name, source, pipeline.get("filter"))
            yield from _start_without_tail(name, sources[source], pipeline.get("start"))
            yield from _what_v1_lacks(name, sources[source], pipeline)
        wants_letters = [key for key in ("on_rejected", "on_late") if pipeline.get(key) == "dead_letter"]
        if wants_letters and "dead_letter" not in pipeline:
            text = f"is required with {wants_letters[0]}: dead_letter (a sink: kind, and its keys)"
            yield Problem(("pipelines", name, "dead_letter"), text)
    yield from shared_destinations(choices, {name: str(pipeline.get("source")) for name, pipeline in whole.items()})


def _unknown_sources(sources: Mapping[str, Any], pipelines: Mapping[str, Any], hidden: Hidden) -> Iterator[Problem]:
    suggestions = 0
    for name, pipeline in pipelines.items():
        source, path = pipeline.get("source"), ("pipelines", name, "source")
        if not isinstance(source, str) or source in sources:
            continue
        suggestions += 1
        if path in hidden or suggestions > SUGGESTIONS_MAX:
            yield Problem(path, "names no source")
        else:
            yield Problem(path, f'unknown source "{source[:100]}"{hint(source, list(sources))}')


def _polled_twice(sources: Mapping[str, Any]) -> Iterator[Problem]:
    for key, why in (("url", "one source is polled once"), ("id", "an id names one source")):
        first: dict[str, str] = {}
        for name, source in sources.items():
            value = source.get(key) if isinstance(source, dict) else None
            if key == "url":
                value = _place_or_none(source)
            if isinstance(value, str) and first.setdefault(value, name) != name:
                other = path_text(("sources", first[value], key))
                yield Problem(("sources", name, key), f"is the same as {other}: {why}")


def _place_or_none(source: Any) -> str | None:
    """What is polled: of v4 the URL names it, of v1 the credentials do."""
    value = source.get("url") if isinstance(source, dict) else None
    try:
        check_source_url(value)
    except ValueError:
        return None
    if not isinstance(value, str):
        return None
    url = normal_source_url(value)
    return url if api_of(url) == "v4" else f"{url} {source.get('auth')}"


def _start_without_tail(pipeline: str, source: Any, start: object) -> Iterator[Problem]:
    """`latest` and a time are found by the newest entries, which only v4 shows."""
    if not isinstance(source, dict) or source.get("api") != "v1" or not isinstance(start, str):
        return
    if start != "earliest" and not start.isdecimal():
        text = "must be earliest or a sequence: API v1 cannot show its newest entries"
        yield Problem(("pipelines", pipeline, "start"), text)


def _what_v1_lacks(pipeline: str, source: Any, settings: Mapping[str, Any]) -> Iterator[Problem]:
    attachments = settings.get("attachments")
    is_v1 = isinstance(source, dict) and source.get("api") == "v1"
    if is_v1 and isinstance(attachments, dict) and not attachments.get("fields"):
        text = "is required with api: v1, whose entries show an attachment's bare id: {type: [field, …]}"
        yield Problem(("pipelines", pipeline, "attachments", "fields"), text)
    if is_v1 and settings.get("datamodel_events") is True:
        text = "needs api: v4: v1's entries do not say by which data model they are shown"
        yield Problem(("pipelines", pipeline, "datamodel_events"), text)


def _subjects_of_others(pipeline: str, source: str, wanted: Any) -> Iterator[Problem]:
    """A pattern of another source's events would let nothing pass, ever, and the offset would go on."""
    subjects = wanted.get("subjects") if isinstance(wanted, dict) else None
    for index, pattern in enumerate(subjects if isinstance(subjects, list) else ()):
        if _is_subject(pattern) and pattern.split(".")[0] not in (token(source), "*", ">"):
            path = ("pipelines", pipeline, "filter", "subjects", index)
            yield Problem(path, f'lets nothing pass: the subjects of this source begin with "{token(source)}."')


def _is_subject(pattern: object) -> bool:
    try:
        return isinstance(pattern, str) and bool(check_subject(pattern))
    except ValueError:
        return False
