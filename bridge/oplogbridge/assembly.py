"""From checked settings to the parts of a running bridge. No decision is taken here, and nothing connects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from oplogbridge.attachments.spec import AttachmentsSpec
from oplogbridge.clock import Clock
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.fields import FieldPaths, FieldRules
from oplogbridge.codec.subjects import Filter
from oplogbridge.config.settings import PipelineSettings, Settings, SinkChoice
from oplogbridge.config.source_settings import AuthSettings, SourceSettings
from oplogbridge.errors import ConfigError, Misconfigured
from oplogbridge.plugins import load_plugin
from oplogbridge.sink import DestinationReader, Refused, Sink, SinkContext
from oplogbridge.source.client import APIS, Credentials, OplogClient
from oplogbridge.source.start import Start
from oplogbridge.spec import PipelineSpec, SourceSpec
from oplogbridge.state import StateStore
from oplogbridge.state.urls import state_store
from oplogbridge.wishes import Interlude, Replay, source_during


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
    # Also for those that do not run here: their replays may.
    keep_raw = any(one.format == "raw" for one in settings.pipelines.values() if one.source == name)

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
        make_replay=lambda replay: replay_of(settings, replay),
        make_interlude=lambda interlude: interlude_of(settings, interlude),
        made_from=(source, keep_raw),
    )


def pipeline_of(
    settings: Settings,
    name: str,
    pipeline: PipelineSettings,
    source_id: str,
    replay: Replay | None = None,
    *,
    keeps_letters: bool = False,
) -> PipelineSpec:
    """`replay`: the same pipeline, for a range of the log, in a line of its own (`replay_of`). `keeps_letters`: also
    where `on_rejected` says stop."""
    owner = f"{settings.name}.{name}"
    if replay is not None:
        owner = f"{settings.name}.{replay.line}"
    wanted = pipeline.filter
    filtered = Filter(
        pipeline.source,
        types=frozenset(wanted.types or ()),
        operations=frozenset(wanted.operations or ()),
        subjects=tuple(wanted.subjects or ()),
    )
    dead_letters, letters_hold_position = None, True
    if (keeps_letters or pipeline.on_rejected == "dead_letter") and pipeline.dead_letter is not None:
        dead_letters = _builder(
            pipeline.dead_letter, SinkContext(f"{owner}.dead-letters", name, pipeline.source, source_id)
        )
        letters_hold_position = pipeline.dead_letter.plugin.traits(pipeline.dead_letter.settings).holds_position
    traits = pipeline.sink.plugin.traits(pipeline.sink.settings)
    binary = None
    if pipeline.mode == "binary":
        if isinstance(traits.binary, Refused):  # of a pipeline that is checked only where a replay goes elsewhere
            raise Misconfigured(f"pipeline {name} has mode: binary, which {pipeline.sink.kind} does not take")
        binary = traits.binary
    return PipelineSpec(
        name=name if replay is None else replay.line,
        source=pipeline.source,
        source_id=source_id,
        start=pipeline.start if replay is None else Start("sequence", replay.from_offset),
        codec=Codec(
            source=pipeline.source,
            format=pipeline.format,
            filter=filtered,
            key=pipeline.key,
            binary=binary,
            tombstones=pipeline.tombstones and not isinstance(traits.tombstones, Refused),
            fields=_field_rules(pipeline),
            replay=replay.name if replay is not None and replay.live else None,
        ),
        traits=traits,
        sink_kind=pipeline.sink.kind,
        make_sink=_builder(pipeline.sink, SinkContext(owner, name, pipeline.source, source_id)),
        make_dead_letters=dead_letters,
        dead_letters_hold_position=letters_hold_position,
        on_late=pipeline.on_late,
        datamodel_events=pipeline.datamodel_events,
        make_reader=_reads(pipeline, SinkContext(owner, name, pipeline.source, source_id)),
        attachments=_attachments(settings.sources[pipeline.source], name, pipeline),
        made_from=(pipeline, replay),
    )


def reader_of(settings: Settings, name: str) -> DestinationReader | None:
    """Of the pipeline's destination; None where it cannot be read back."""
    pipeline = settings.pipelines[name]
    context = SinkContext(f"{settings.name}.{name}", name, pipeline.source, settings.sources[pipeline.source].id)
    make = pipeline.sink.plugin.reader
    return None if make is None else make(pipeline.sink.settings, context)


def dead_letter_reader_of(settings: Settings, name: str) -> DestinationReader | None:
    """Of where the pipeline keeps its dead letters; None where there are none, or they cannot be read back."""
    pipeline = settings.pipelines[name]
    letters = pipeline.dead_letter
    if letters is None or letters.plugin.reader is None:
        return None
    owner = f"{settings.name}.{name}.dead-letters"
    context = SinkContext(owner, name, pipeline.source, settings.sources[pipeline.source].id)
    return letters.plugin.reader(letters.settings, context)


def replay_of(settings: Settings, replay: Replay) -> PipelineSpec:
    """The line of a replay. Raises Misconfigured when the configuration has changed so that it cannot be run."""
    pipeline = settings.pipelines.get(replay.pipeline)
    if pipeline is None:
        raise Misconfigured(
            f"replay {replay.name}: there is no pipeline {replay.pipeline} any more: cancel it with "
            f"`oplog-bridge replay cancel {replay.name}`"
        )
    changes: dict[str, Any] = {"sink": sink_aside(pipeline.sink, replay.name, replay.into)}
    if pipeline.dead_letter is not None:
        changes["dead_letter"] = sink_aside(pipeline.dead_letter, replay.name, {})
    source_id = settings.sources[pipeline.source].id
    return pipeline_of(settings, replay.pipeline, pipeline.model_copy(update=changes), source_id, replay)


def interlude_of(settings: Settings, interlude: Interlude) -> PipelineSpec:
    """The pipeline's own line, for what stands beside the log."""
    pipeline = settings.pipelines[interlude.pipeline]
    source_id = source_during(interlude, settings.sources[pipeline.source].id)
    return pipeline_of(settings, interlude.pipeline, pipeline, source_id, keeps_letters=interlude.as_letters)


def sink_aside(choice: SinkChoice, name: str, into: Mapping[str, Any]) -> SinkChoice:
    """Where a replay goes: `into` are keys that differ, or all of them when `kind` is among them.

    Raises:
        Misconfigured: They are no settings of that sink.
    """
    into = dict(into)
    try:
        if "kind" in into:
            plugin = load_plugin(str(into.pop("kind")))
            return SinkChoice(plugin.kind, plugin, plugin.settings.model_validate(into))
        # What the sink would change by itself is only for those who do not say anything of it.
        changes = {**choice.plugin.aside(choice.settings, name), **into}
        kept = choice.settings.model_dump(exclude_unset=True)
        return SinkChoice(choice.kind, choice.plugin, choice.plugin.settings.model_validate({**kept, **changes}))
    except ConfigError as error:
        raise Misconfigured(f"--into: {'; '.join(error.problems)}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Misconfigured(f"--into: {problems}") from None  # its cause would show the settings


def goes_live(settings: Settings, pipeline: str, sink: SinkChoice) -> bool:
    """Whether it is where the pipeline itself delivers to."""
    chosen = settings.pipelines[pipeline]
    context = SinkContext("any", pipeline, chosen.source, settings.sources[chosen.source].id)
    return _destination(chosen.sink, context) == _destination(sink, context)


def _destination(choice: SinkChoice, context: SinkContext) -> str:
    return choice.plugin.build(choice.settings, context).destination


def _field_rules(pipeline: PipelineSettings) -> dict[str, FieldRules]:
    secret = pipeline.fields_secret.get_secret_value().encode() if pipeline.fields_secret is not None else b""
    return {
        object_type: FieldRules(FieldPaths(chosen.drop, chosen.hash), secret)
        for object_type, chosen in pipeline.fields.items()
    }


def _attachments(source: SourceSettings, name: str, pipeline: PipelineSettings) -> AttachmentsSpec | None:
    wanted = pipeline.attachments
    if wanted is None:
        return None
    return AttachmentsSpec(
        pipeline=name,
        store=wanted.store,
        types=frozenset(wanted.types or ()),
        fields=wanted.fields,
        hidden={
            type_: frozenset(path.partition(".")[0] for path in (*rules.drop, *rules.hash))
            for type_, rules in pipeline.fields.items()
        },
        size_max=wanted.size_max,
        timeout_seconds=wanted.timeout,
        deadline_seconds=wanted.deadline,
        has_urls=source.api == "v4",
        allow_http=source.url.startswith("http:"),
        format=pipeline.format,
    )


def _reads(pipeline: PipelineSettings, context: SinkContext) -> Callable[[], DestinationReader] | None:
    make = pipeline.sink.plugin.reader
    return None if make is None else lambda: make(pipeline.sink.settings, context)


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
