"""Pipelines: from where, what, where to."""

import pytest

from oplogbridge.config import parse_start, start_text
from oplogbridge.source.start import Start
from unit.config_samples import URL, loaded, minimal, mistakes, settings, with_pipeline

STARTS = "must be earliest, latest, snapshot, a sequence (0 to 2^63) or a time with its zone (2026-11-22T10:00:00Z)"


def pipeline(**keys):
    return settings(with_pipeline(**keys)).pipelines["out"]


def test_everything_but_source_and_sink_has_a_default():
    out = pipeline()

    assert (out.source, out.start, out.format, out.key) == ("shop", Start("earliest"), "cloudevents", "{type}/{id}")
    assert (out.filter.types, out.filter.operations, out.filter.subjects) == (None, None, None)
    assert (out.on_rejected, out.dead_letter) == ("stop", None)
    assert (out.sink.kind, out.sink.plugin.kind, out.sink.settings.path) == ("file", "file", "{pipeline}.jsonl")


@pytest.mark.parametrize(
    ("written", "start"),
    [
        ("earliest", Start("earliest")),
        ("latest", Start("latest")),
        (0, Start("sequence", 0)),
        (6112271540663877633, Start("sequence", 6112271540663877633)),
        ("6112271540663877633", Start("sequence", 6112271540663877633)),
        (2**63, Start("sequence", 2**63)),
        ("2026-11-22T10:00:00Z", Start("time", 1795341600)),
        ("2026-11-22T12:00:00.9+02:00", Start("time", 1795341600)),
        ("2026-11-22t10:00z", Start("time", 1795341600)),
    ],
)
def test_a_start_is_a_word_a_sequence_or_a_time(written, start):
    assert pipeline(start=written).start == start
    assert parse_start(start_text(start)) == start


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("newest", STARTS),
        (-1, STARTS),
        (2**63 + 1, STARTS),
        ("9" * 5000, STARTS),
        (True, STARTS),
        (6.112e18, f"{STARTS}: a float has rounded the sequence already"),
        ("2026-11-22", STARTS),
        ("2026-11-22T10:00:00", "must be a time with its zone: put Z (UTC) or +02:00 behind it"),
        ("2026-13-22T10:00:00Z", f"must be a time that exists: {STARTS.removeprefix('must be ')}"),
        (
            "1969-12-31T00:00:00Z",
            "must be a time from 1970-01-01 to 2038-01-19, which is all that sequences can express",
        ),
        (
            "2039-01-01T00:00:00Z",
            "must be a time from 1970-01-01 to 2038-01-19, which is all that sequences can express",
        ),
        (
            "0001-01-01T00:00:00+23:59",
            "must be a time from 1970-01-01 to 2038-01-19, which is all that sequences can express",
        ),
    ],
)
def test_any_other_start_is_told_what_is_allowed(written, why):
    assert mistakes(with_pipeline(start=written)) == [f"pipelines.out.start: {why}"]


def test_a_pipeline_may_begin_with_a_snapshot_and_nothing_else_may():
    assert pipeline(start="snapshot").start == Start("snapshot")
    with pytest.raises(ValueError, match="earliest, latest, a sequence"):
        parse_start("snapshot")


def test_a_filter_has_three_conditions():
    wanted = pipeline(
        filter={"types": ["user", "order"], "operations": ["delete"], "subjects": ["shop.order.>", "*.user.*", ">"]}
    ).filter
    assert wanted.types == ("user", "order")
    assert wanted.operations == ("delete",)
    assert wanted.subjects == ("shop.order.>", "*.user.*", ">")


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ({"types": []}, "types: must not be empty"),
        ({"types": "user"}, "types: must be a list"),
        ({"types": [True]}, "types[0]: must be text: put quotes around it"),
        (
            {"operations": ["update", "updte"]},
            'operations[1]: must be create, update or delete, is "updte" (did you mean "update"?)',
        ),
        ({"subjects": ["shop..x"]}, "subjects[0]: must be words with single dots between them, like shop.order.>"),
        (
            {"subjects": ["shop.>.x"]},
            "subjects[0]: * stands for one whole word, > only at the end and for all that follow",
        ),
        (
            {"subjects": ["shop.ord*.x"]},
            "subjects[0]: * stands for one whole word, > only at the end and for all that follow",
        ),
        (
            {"subjects": ["shop.>", "shp.>"]},
            'subjects[1]: lets nothing pass: the subjects of this source begin with "shop."',
        ),
    ],
)
def test_a_filter_that_cannot_mean_anything_is_a_mistake(wanted, line):
    assert mistakes(with_pipeline(filter=wanted)) == [f"pipelines.out.filter.{line}"]


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (
            "format",
            "cloudevent",
            'must be cloudevents, raw, flat or debezium, is "cloudevent" (did you mean "cloudevents"?)',
        ),
        ("key", "{typ}", "unknown field {typ} in '{typ}': allowed are {id}, {operation}, {source}, {type}"),
        ("key", "{", "a single '{' in '{': write '{{' for the brace"),
        ("key", "", "must not be empty"),
        ("on_rejected", "skip", 'must be stop or dead_letter, is "skip"'),
        ("source", "shp", 'unknown source "shp" (did you mean "shop"? allowed: shop)'),
        ("source", ["shop"], "must be text"),
        ("sink", "file", "must be a mapping with a kind, and the keys of that sink"),
    ],
)
def test_a_wrong_value_is_told_what_is_allowed(key, value, why):
    assert mistakes(with_pipeline(**{key: value})) == [f"pipelines.out.{key}: {why}"]


def test_what_a_sink_finds_wrong_stands_below_the_sink_with_the_rest():
    data = with_pipeline(format="row", sink={"kind": "file", "path": "{pipline}", "mode": 1})
    assert sorted(mistakes(data)) == [
        'pipelines.out.format: must be cloudevents, raw, flat or debezium, is "row" (did you mean "raw"?)',
        "pipelines.out.sink.mode: unknown key (allowed: path)",
        "pipelines.out.sink.path: unknown field {pipline} in '{pipline}': allowed are {pipeline}, {source}",
    ]


def test_a_sink_needs_a_kind_that_is_installed():
    (missing,) = mistakes(with_pipeline(sink={"path": "x"}))
    assert missing.startswith("pipelines.out.sink.kind: is required (allowed: file, ")
    (unknown,) = mistakes(with_pipeline(sink={"kind": "fiel", "path": "x"}))
    assert unknown.startswith('pipelines.out.sink.kind: unknown sink "fiel" (did you mean "file"? allowed: file, ')
    (number,) = mistakes(with_pipeline(sink={"kind": 1}))
    assert number.startswith("pipelines.out.sink.kind: must be text (allowed: ")


def test_dead_letters_need_a_sink_of_their_own():
    assert mistakes(with_pipeline(on_rejected="dead_letter")) == [
        "pipelines.out.dead_letter: is required with on_rejected: dead_letter (a sink: kind, and its keys)"
    ]
    letters = {"kind": "file", "path": "letters.jsonl"}
    out = pipeline(on_rejected="dead_letter", dead_letter=letters)
    assert out.dead_letter.settings.path == "letters.jsonl"
    assert loaded(with_pipeline(dead_letter=letters)).warnings == (
        "pipelines.out.dead_letter: is not used: on_rejected is stop",
    )
    assert mistakes(with_pipeline(on_rejected="dead_letter", dead_letter={"kind": "file", "path": "./out.jsonl"})) == [
        "pipelines.out.dead_letter: is the place that the pipeline itself writes to: give it another"
    ]


def test_a_file_belongs_to_one_pipeline():
    data = minimal()
    data["pipelines"]["again"] = {"source": "shop", "sink": {"kind": "file", "path": "./x/../out.jsonl"}}
    assert mistakes(data) == [
        "pipelines.again.sink: writes to the same file as pipelines.out.sink: a file belongs to one pipeline"
    ]


def test_templates_that_differ_by_pipeline_are_different_files():
    data = minimal()
    data["pipelines"]["again"] = {"source": "shop", "sink": {"kind": "file", "path": "{pipeline}.jsonl"}}
    assert mistakes(data) == []


def redis(url="redis://localhost", stream="oplog:{source}"):
    return {"kind": "redis", "url": url, "stream": stream}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (redis(), redis("redis://ada:secret@LOCALHOST:6379/0"), True),
        (redis(), redis("redis://localhost/1"), False),
        (redis("redis+sentinel://a,b/data"), redis("redis+sentinel://x:y@b:26379,a/data/0"), True),
        (redis("redis+sentinel://a,b/data"), redis("redis+sentinel://a,b/other"), False),
        (redis("redis+cluster://a,b"), redis("redis+cluster://b,a"), True),
        (redis(), redis("redis://localhost:6380"), False),
        (redis(), redis(stream="oplog:shop"), True),
        (redis(), redis(stream="oplog:{pipeline}"), False),
        (redis(stream="oplog:{type}"), redis(stream="oplog:{type}"), True),
        (redis(stream="{{{source}}}:a"), redis(stream="{{shop}}:a"), True),
    ],
)
def test_a_redis_stream_belongs_to_one_pipeline(one, other, same):
    data = with_pipeline(sink=one)
    data["pipelines"]["again"] = {"source": "shop", "sink": other}
    line = "pipelines.again.sink: writes to the same stream as pipelines.out.sink: a stream belongs to one pipeline"
    assert mistakes(data) == ([line] if same else [])


def test_a_kafka_topic_may_be_shared_but_not_by_a_pipeline_and_its_own_dead_letters():
    kafka = {"kind": "kafka", "bootstrap_servers": "localhost:9092"}
    data = with_pipeline(sink=kafka, on_rejected="dead_letter", dead_letter={**kafka, "topic": "dead"})
    data["pipelines"]["again"] = {"source": "shop", "sink": kafka}
    assert mistakes(data) == []
    data["pipelines"]["out"]["dead_letter"] = kafka
    assert mistakes(data) == [
        "pipelines.out.dead_letter: is the place that the pipeline itself writes to: give it another"
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Out", "must begin with a letter or digit and hold only a-z, 0-9, dots, _ and - (at most 100)"),
        ("-out", "must begin with a letter or digit and hold only a-z, 0-9, dots, _ and - (at most 100)"),
        ("x" * 101, "must begin with a letter or digit and hold only a-z, 0-9, dots, _ and - (at most 100)"),
        (
            "out.dead-letters",
            "must not end in .dead-letters or contain .replay. (what we keep for those has such names)",
        ),
        ("out.replay.1", "must not end in .dead-letters or contain .replay. (what we keep for those has such names)"),
    ],
)
def test_names_are_safe_wherever_they_are_used(name, why):
    data = minimal()
    data["pipelines"] = {name: data["pipelines"]["out"]}
    (line,) = mistakes(data)
    assert line.endswith(f": {why}")


def test_defaults_are_laid_under_each_pipeline():
    data = minimal()
    data["defaults"] = {
        "format": "raw",
        "filter": {"types": ["user"], "operations": ["create"]},
        "on_rejected": "dead_letter",
        "dead_letter": {"kind": "file", "path": "{pipeline}.dead.jsonl"},
        "sink": {"kind": "memory", "goes_back": False},
    }
    data["pipelines"]["out"]["filter"] = {"types": ["order"]}
    data["pipelines"]["mem"] = {"source": "shop", "format": "cloudevents", "sink": {"name": "x"}, "on_rejected": "stop"}
    data["pipelines"]["mem"]["dead_letter"] = None

    found = settings(data)

    out, mem = found.pipelines["out"], found.pipelines["mem"]
    assert (out.format, out.filter.types, out.filter.operations) == ("raw", ("order",), ("create",))
    assert (out.sink.kind, out.sink.settings.path) == ("file", "{pipeline}.jsonl")
    assert (mem.format, mem.filter.types, mem.sink.kind, mem.sink.settings.name) == (
        "cloudevents",
        ("user",),
        "memory",
        "x",
    )
    assert mem.sink.settings.goes_back is False
    assert mem.dead_letter is None
    assert found.defaults == {}


def test_a_mistake_in_defaults_is_reported_once_however_many_pipelines_there_are():
    data = minimal()
    data["defaults"] = {"formt": "raw", "start": "newest", "sink": {"kind": "file", "pth": 1}, "key": "${NOBODY}"}
    data["pipelines"] = {f"p{n}": {"source": "shop", "sink": {"path": "{pipeline}"}} for n in range(3)}
    data["pipelines"]["p1"]["start"] = "oldest"

    lines = mistakes(data)

    assert [line.split(": ")[0] for line in lines] == [
        "pipelines.p1.start",
        "defaults.formt",
        "defaults.start",
        "defaults.sink.pth",
        "defaults.key",
    ]


def test_a_configuration_needs_a_pipeline():
    assert mistakes({"sources": {"shop": {"url": URL}}}) == ["pipelines: at least one pipeline is required"]
    assert mistakes({}) == ["pipelines: at least one pipeline is required"]
    assert mistakes({"pipelines": []}) == ["pipelines: must be a mapping (key: value)"]


def test_a_name_with_nothing_below_it_lacks_everything():
    assert mistakes({"sources": {"shop": None}, "pipelines": {"out": None}}) == [
        "sources.shop.url: is required",
        "pipelines.out.source: is required",
        "pipelines.out.sink: is required",
    ]


KAFKA = {"kind": "kafka", "bootstrap_servers": "localhost:9092"}
WEBHOOK = {"kind": "webhook", "url": "https://hooks.example.com/"}
REDIS = {"kind": "redis", "url": "redis://localhost:6379/0"}
FILE = {"kind": "file", "path": "out.jsonl"}
NO_HEADERS = "binary is not for this sink: the destination has no headers for an event's attributes"
NO_TOMBSTONES = "are not for this sink: the destination has no records without a value"
SECRET = "a-secret-of-some-length"


@pytest.mark.parametrize("sink", [KAFKA, WEBHOOK])
def test_binary_mode_is_for_sinks_with_headers(sink):
    assert pipeline(sink=sink, mode="binary").mode == "binary"
    assert pipeline(sink=sink).mode == "structured"


@pytest.mark.parametrize(
    ("sink", "why"),
    [
        (REDIS, NO_HEADERS),
        (FILE, NO_HEADERS),
        ({"kind": "stdout"}, NO_HEADERS),
        (
            WEBHOOK | {"batch_max": 2},
            "binary is not for this sink: a request with several events (batch_max above 1) has headers for one alone",
        ),
    ],
)
def test_a_sink_without_headers_for_each_event_refuses_binary_mode(sink, why):
    assert mistakes(with_pipeline(sink=sink, mode="binary")) == [f"pipelines.out.mode: {why}"]


@pytest.mark.parametrize("format_", ["raw", "flat", "debezium"])
def test_only_cloudevents_have_modes(format_):
    assert mistakes(with_pipeline(sink=KAFKA, mode="binary", format=format_)) == [
        "pipelines.out.mode: binary goes with format: cloudevents"
    ]


def test_a_mode_in_defaults_is_checked_against_each_pipelines_sink():
    data = minimal()
    data["defaults"] = {"mode": "binary"}
    data["pipelines"]["kafka"] = {"source": "shop", "sink": KAFKA}

    assert mistakes(data) == [f"pipelines.out.mode: {NO_HEADERS}"]


@pytest.mark.parametrize("sink", [KAFKA, {"kind": "file", "path": "f"}])
def test_exactly_once_may_be_relied_on_where_the_sink_promises_it(sink):
    for guarantee in ("exactly_once", "at_least_once"):
        assert pipeline(sink=sink, guarantee=guarantee).guarantee == guarantee


@pytest.mark.parametrize("sink", [{"kind": "stdout"}, {"kind": "webhook", "url": "https://hooks.example.com"}])
def test_exactly_once_is_refused_where_the_sink_promises_less(sink):
    assert pipeline(sink=sink, guarantee="at_least_once").guarantee == "at_least_once"
    assert pipeline(sink=sink).guarantee is None
    kind = sink["kind"]
    (mistake,) = mistakes(with_pipeline(sink=sink, guarantee="exactly_once"))
    assert mistake.startswith(f"pipelines.out.guarantee: {kind} delivers at least once: choose another sink")


def test_tombstones_are_for_kafka():
    assert pipeline(sink=KAFKA, tombstones=True).tombstones is True
    for sink in (WEBHOOK, REDIS, FILE, {"kind": "stdout"}):
        assert mistakes(with_pipeline(sink=sink, tombstones="true")) == [f"pipelines.out.tombstones: {NO_TOMBSTONES}"]


def test_a_tombstone_that_would_delete_nothing_is_a_mistake():
    key = with_pipeline(sink=KAFKA, tombstones=True, key="{operation}/{id}")
    topic = with_pipeline(sink=KAFKA | {"topic": "oplog.{operation}"}, tombstones=True)

    assert mistakes(key) == [
        "pipelines.out.tombstones: need a key without {operation}: a delete must have the key of what it deletes"
    ]
    why = "a topic over {operation} keeps deletes apart from what they delete"
    assert mistakes(topic) == [f"pipelines.out.tombstones: are not for this sink: {why}"]


def test_fields_are_dropped_or_hashed_by_type():
    out = pipeline(fields={"user": {"drop": ["email"], "hash": ["phone", "address.street"]}}, fields_secret=SECRET)

    assert (out.fields["user"].drop, out.fields["user"].hash) == (("email",), ("phone", "address.street"))
    assert SECRET not in repr(out)
    assert pipeline(fields={"user": {"drop": ["email"]}}).fields_secret is None


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"user": {"hash": ["phone"]}}, ": need fields_secret where something is hashed: without one, anybody could "),
        ({"user": {}}, ".user: must name fields under drop or hash"),
        ({"user": {"drop": ["id"]}}, ".user.drop[0]: must not begin with id: events are named and keyed by it"),
        ({"user": {"drop": ["a", "type.x"]}}, ".user.drop[1]: must not begin with type: events are named and keyed"),
        ({"user": {"drop": ["a."]}}, ".user.drop[0]: must be names with single dots between them, like address.street"),
        ({"user": {"drop": ["a", "a"]}}, '.user: "a" is named twice'),
        ({"user": {"drop": ["a", "a.b.c"]}}, '.user: "a.b.c" lies within "a"'),
        ({"user": {"keep": ["a"]}}, ".user.keep: unknown key (allowed: drop, hash)"),
        ({"user": {"drop": "email"}}, ".user.drop: must be a list"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_a_mistake(fields, line):
    (found,) = mistakes(with_pipeline(fields=fields))
    assert found.startswith(f"pipelines.out.fields{line}")


def test_the_secret_of_hashes_is_long_and_never_shown():
    fields = {"user": {"hash": ["phone"]}}
    (line,) = mistakes(with_pipeline(fields=fields, fields_secret="${PEPPER}"), {"PEPPER": "too-short"})

    assert line.startswith("pipelines.out.fields_secret: must have at least 16 bytes: python3 -c")
    assert "too-short" not in line


def test_a_secret_without_anything_to_hash_is_worth_a_warning():
    assert loaded(with_pipeline(fields_secret=SECRET)).warnings == (
        "pipelines.out.fields_secret: is not used: nothing is hashed under fields",
    )
