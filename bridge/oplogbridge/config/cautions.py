"""What is allowed, and probably not meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from oplogbridge.config.field_settings import hashes
from oplogbridge.config.problems import Problem
from oplogbridge.config.settings import Settings
from oplogbridge.config.source_urls import host_is_loopback

POLL_INTERVAL_SECONDS_MIN = 1.0  # the vendor's rule


def warnings_of(settings: Settings) -> Iterator[Problem]:
    yield from _of_sources(settings)
    admin = settings.admin
    if admin.listen is not None and not admin.serves_api:
        text = "is not loopback and admin.token is not set: the page and /api are off; probes and metrics are on"
        yield Problem(("admin", "listen"), text)
    for name, pipeline in settings.pipelines.items():
        if pipeline.dead_letter is not None and pipeline.on_rejected == "stop":
            yield Problem(("pipelines", name, "dead_letter"), "is not used: on_rejected is stop")
        if pipeline.fields_secret is not None and not hashes(pipeline.fields):
            yield Problem(("pipelines", name, "fields_secret"), "is not used: nothing is hashed under fields")


def _of_sources(settings: Settings) -> Iterator[Problem]:
    used = {pipeline.source for pipeline in settings.pipelines.values()}
    for name, source in settings.sources.items():
        loopback = host_is_loopback(source.url)
        if name not in used:
            yield Problem(("sources", name), "no pipeline uses it")
        if source.poll_interval < POLL_INTERVAL_SECONDS_MIN and not loopback:
            text = "is below 1s: the vendor allows one request a second, and answers 429 to more"
            yield Problem(("sources", name, "poll_interval"), text)
        if source.auth is None and not loopback:
            yield Problem(("sources", name, "auth"), "is not set: the vendor's API refuses requests without it")
        if source.url.startswith("http:") and not loopback:
            yield Problem(("sources", name, "url"), "is http: the credentials travel in clear text")
