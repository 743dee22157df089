"""Files: read, merged, and every mistake in one error."""

import os

import pytest

from oplogbridge.config import load
from oplogbridge.errors import ConfigError
from unit.config_samples import URL

FIVE_MISTAKES = """\
name: oplog-bridge
sources:
  shop:
    url: https://run.journeyapps.com/api/v4/533bda53027894f69b001055/oplog.json
    auth: {username: "${OPLOG_USER}", password: "${OPLOG_PASSWORD}"}
    page_limit: 5000
pipelines:
  shop-to-file:
    sorce: shop
    sink: {kind: file, path: shop.jsonl}
  again:
    source: shop
    sink: {kind: fiel, path: again.jsonl}
"""

ONE_PIPELINE = f"sources: {{shop: {{url: {URL}}}}}\npipelines: {{out: {{source: shop, sink: {{kind: memory}}}}}}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="oplog-bridge.yaml"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def error_of(*paths, env=None):
    with pytest.raises(ConfigError) as caught:
        load(paths, env or {})
    assert caught.value.__context__ is None  # a traceback must not hold what the message leaves out
    return str(caught.value)


def test_five_mistakes_are_five_lines(write):
    path = write(FIVE_MISTAKES)

    message = error_of(path, env={"OPLOG_USR": "ada", "OPLOG_PASSWORD": "correct-horse"})

    assert message == (
        "oplog-bridge.yaml: 5 problems\n"
        "  sources.shop.url: must end in /api/v4/{backend-deployment-id} or in /api/v1\n"
        "  sources.shop.auth.username: the variable OPLOG_USER is not set, and has no default "
        '(did you mean "OPLOG_USR"?)\n'
        "  sources.shop.page_limit: must be at most 1000, is 5000\n"
        '  pipelines.shop-to-file.sorce: unknown key (did you mean "source"? '
        "allowed: source, start, format, key, filter, on_rejected, on_late, dead_letter, sink, guarantee, mode, "
        "tombstones, fields_secret, datamodel_events, attachments, fields)\n"
        '  pipelines.again.sink.kind: unknown sink "fiel" (did you mean "file"? '
        "allowed: file, kafka, memory, nats, redis, stdout, webhook)"
    )


def test_a_file_loads_with_secrets_from_the_environment_and_from_files(write, tmp_path):
    write("correct-horse\n", "password")
    path = write(f"""\
state: redis://:${{REDIS_PASSWORD}}@localhost/0
admin: {{listen: 0.0.0.0:8090, token: "${{file:{tmp_path}/password}}"}}
sources:
  shop: {{url: {URL}, auth: {{username: ada, password: "${{file:password}}"}}}}
pipelines:
  out: {{source: shop, start: 2026-11-22T10:00:00Z, sink: {{kind: file, path: out.jsonl}}}}
""")

    loaded = load([path], {"REDIS_PASSWORD": "battery-staple"})

    settings = loaded.settings
    assert settings.state.get_secret_value() == "redis://:battery-staple@localhost/0"
    assert settings.sources["shop"].auth.password.get_secret_value() == "correct-horse"
    assert settings.admin.token.get_secret_value() == "correct-horse"
    assert settings.admin.serves_api
    for shown in (repr(loaded), str(settings), settings.model_dump_json(exclude={"pipelines"})):
        assert "correct-horse" not in shown
        assert "battery-staple" not in shown


def test_an_empty_file_lacks_a_pipeline(write):
    assert error_of(write("")) == "oplog-bridge.yaml: 1 problem\n  pipelines: at least one pipeline is required"


def test_a_byte_order_mark_is_no_mistake(write):
    assert "at least one pipeline" in error_of(write(b"\xef\xbb\xbfname: x\n"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a:\n  - b\n c: d\n", "oplog-bridge.yaml:3: did not find expected key"),
        (b"- a\n", "oplog-bridge.yaml:1: must be a mapping (key: value)"),
        (b"a\n", "oplog-bridge.yaml:1: must be a mapping (key: value)"),
        (b"a: b\nc: \xff\n", "oplog-bridge.yaml:2: is not UTF-8"),
        (b"#" * (16 * 2**20 + 1), "oplog-bridge.yaml: is larger than 16384 KiB"),
    ],
)
def test_what_is_no_configuration_names_the_file_and_line(write, content, line):
    assert error_of(write(content)) == f"oplog-bridge.yaml: 1 problem\n  {line}"


def test_files_that_cannot_be_read_are_all_named(write, tmp_path):
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    good = write("name: x\n")
    assert error_of("missing.yaml", "directory", "pipe", "nul\0", good, good) == (
        f"missing.yaml, directory, pipe, nul\0, {good}, {good}: 5 problems\n"
        "  missing.yaml: cannot be read: No such file or directory\n"
        "  directory: is no file\n"
        "  pipe: is no file\n"
        "  nul\0: embedded null byte\n"
        f"  {good}: is given 2 times"
    )
    assert error_of() == "configuration: 1 problem\n  no file is given: -c FILE"


def test_several_files_are_one_configuration(write):
    one = write(f"admin: {{listen: 'off'}}\nsources:\n  shop: {{url: {URL}}}\n", "one.yaml")
    two = write(
        f"admin: {{token: correct-horse}}\nsources:\n  other: {{url: {URL}6}}\n"
        "pipelines:\n  out: {source: shop, sink: {kind: memory}}\n",
        "two.yaml",
    )
    settings = load([one, two], {}).settings
    assert list(settings.sources) == ["shop", "other"]
    assert list(settings.pipelines) == ["out"]
    assert settings.admin.listen is None
    assert settings.admin.token is not None


def test_what_two_files_define_is_a_mistake_that_names_both(write):
    one = write(f"name: x\nlog: {{level: debug}}\nsources:\n  shop: {{url: {URL}}}\n", "one.yaml")
    two = write(
        "name: x\nlog: {level: info, format: console}\nsources:\n  shop: {api: v4}\n"
        "pipelines:\n  out: {source: shop, sink: {kind: memory}}\n",
        "two.yaml",
    )
    assert error_of(one, two) == (
        "one.yaml, two.yaml: 3 problems\n"
        "  name: is defined in one.yaml and again in two.yaml\n"
        "  log.level: is defined in one.yaml and again in two.yaml\n"
        "  sources.shop: is defined in one.yaml and again in two.yaml"
    )


def test_a_key_defined_twice_in_one_file_is_a_mistake_with_the_others(write):
    path = write(ONE_PIPELINE.replace("}", f", url: {URL}6}}", 1))
    assert error_of(path) == (
        "oplog-bridge.yaml: 1 problem\n  sources.shop.url: is defined twice, in line 1 and in line 1"
    )


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (64 * 1024 + 1)])
def test_a_secret_file_must_be_a_small_text(write, content):
    write(content, "password")
    path = write(f"name: '${{file:password}}'\n{ONE_PIPELINE}")
    message = error_of(path)
    assert message.startswith("oplog-bridge.yaml: 1 problem\n  name: the file in ${file:…} cannot be used: ")


def test_a_thousand_sources_are_checked_in_about_a_second(write):
    import time

    lines = ["sources:"]
    lines += [f'  s{n}: {{url: {URL}{n}, auth: {{username: a, password: "${{PASSWORD}}"}}}}' for n in range(1000)]
    lines += ["pipelines:"]
    lines += [f"  p{n}: {{source: s{n}, sink: {{kind: file, path: '{{pipeline}}'}}}}" for n in range(1000)]
    path = write("\n".join(lines))

    began = time.perf_counter()
    settings = load([path], {"PASSWORD": "correct-horse"}).settings

    assert len(settings.pipelines) == 1000
    assert time.perf_counter() - began < 5  # measured: 0.2 s; the bound is for a busy machine
