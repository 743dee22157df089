"""From checked settings to the parts of a running bridge. No decision is taken here, and nothing connects."""

from __future__ import annotations

from collections.abc import Callable

from oplogbridge.clock import Clock
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.fields import FieldPaths, FieldRules
from oplogbridge.codec.subjects import Filter
from oplogbridge.config.settings import PipelineSettings, Settings, SinkChoice
from oplogbridge.config.source_settings import AuthSettings, SourceSettings
from oplogbridge.sink import Refused, Sink, SinkContext
from oplogbridge.source.client import APIS, Credentials, OplogClient
from oplogbridge.spec import PipelineSpec, SourceSpec
from oplogbridge.state import StateStore
from oplogbridge.state.urls import state_store


def store_of(settings: Settings, clock: Clock) -> StateStore:
    return state_store(settings.state.get_secret_value(), name=settings.name, clock=clock)


def sources_of(settings: Settings, *, only_pipelines: frozenset[str] | None = None) -> list[SourceSpec]:
    """Every source that has a pipeline (of those asked for), with its pipelines."""
    specs = []
    for name, source in settings.sources.items():
        chosen = {
            pipeline_name: pipeline
            for pipeline_name, pipeline in settings.pipelines.items()
            if pipeline.source == name and (only_pipelines is None or pipeline_name in only_pipelines)
        }
        if chosen:
            specs.append(source_of(settings, name, source, chosen))
    return specs


def source_of(
    settings: Settings, name: str, source: SourceSettings, pipelines: dict[str, PipelineSettings]
) -> SourceSpec:
    keep_raw = any(pipeline.format == "raw" for pipeline in pipelines.values())

    def make_client(check: Callable[[], None]) -> OplogClient:
        return OplogClient(
            name=name,
            url=source.url,
            credentials=_credentials(source.auth),
            api=APIS[source.api],
            keep_raw=keep_raw,
            rounded_allowed=source.rounded_sequences == "allow",
            page_limit=source.page_limit,
            page_bytes_max=source.page_bytes_max,
            request_timeout_seconds=source.request_timeout,
            check=check,
        )

    return SourceSpec(
        name=name,
        source_id=source.id,
        poll_interval_seconds=source.poll_interval,
        settle_seconds=source.settle,
        make_client=make_client,
        pipelines=[pipeline_of(settings, pipeline, pipelines[pipeline], source.id) for pipeline in pipelines],
        made_from=(source, keep_raw),
    )


def pipeline_of(settings: Settings, name: str, pipeline: PipelineSettings, source_id: str) -> PipelineSpec:
    owner = f"{settings.name}.{name}"
    wanted = pipeline.filter
    filtered = Filter(
        pipeline.source,
        types=frozenset(wanted.types or ()),
        operations=frozenset(wanted.operations or ()),
        subjects=tuple(wanted.subjects or ()),
    )
    dead_letters, letters_hold_position = None, True
    if pipeline.on_rejected == "dead_letter" and pipeline.dead_letter is not None:
        dead_letters = _builder(
            pipeline.dead_letter, SinkContext(f"{owner}.dead-letters", name, pipeline.source, source_id)
        )
        letters_hold_position = pipeline.dead_letter.plugin.traits(pipeline.dead_letter.settings).holds_position
    traits = pipeline.sink.plugin.traits(pipeline.sink.settings)
    binary = None
    if pipeline.mode == "binary":
        assert not isinstance(traits.binary, Refused), "settings are checked: the sink takes binary mode"
        binary = traits.binary
    return PipelineSpec(
        name=name,
        source=pipeline.source,
        source_id=source_id,
        start=pipeline.start,
        codec=Codec(
            source=pipeline.source,
            format=pipeline.format,
            filter=filtered,
            key=pipeline.key,
            binary=binary,
            tombstones=pipeline.tombstones,
            fields=_field_rules(pipeline),
        ),
        traits=traits,
        sink_kind=pipeline.sink.kind,
        make_sink=_builder(pipeline.sink, SinkContext(owner, name, pipeline.source, source_id)),
        make_dead_letters=dead_letters,
        dead_letters_hold_position=letters_hold_position,
        made_from=pipeline,
    )


def _field_rules(pipeline: PipelineSettings) -> dict[str, FieldRules]:
    secret = pipeline.fields_secret.get_secret_value().encode() if pipeline.fields_secret is not None else b""
    return {
        object_type: FieldRules(FieldPaths(chosen.drop, chosen.hash), secret)
        for object_type, chosen in pipeline.fields.items()
    }


def _builder(choice: SinkChoice, context: SinkContext) -> Callable[[], Sink]:
    return lambda: choice.plugin.build(choice.settings, context)


def _credentials(auth: AuthSettings | None) -> Credentials | None:
    if auth is None:
        return None
    if auth.token is not None:
        make = Credentials.bearer if auth.scheme == "Bearer" else Credentials.token
        return make(auth.token.get_secret_value())
    assert auth.username is not None, "settings are checked: a password comes with a name"
    assert auth.password is not None, "settings are checked: a name comes with a password"
    return Credentials.basic(auth.username, auth.password.get_secret_value())
