"""Where attachments are kept: a folder, S3 (an emulated one), and what each does with what is not there."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from oplogbridge.attachments.references import Told
from oplogbridge.attachments.store import AttachmentStore, store_url
from oplogbridge.errors import Misconfigured, Unavailable

CONTENT = bytes(range(256)) * 40_000  # more than one part of S3's
TOLD = Told("uploaded", "image/png", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, unique: str) -> str:
    """Credentials and endpoint are found where that platform's own tools look for them."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "planted",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = unique.lower().replace("_", "-")[:60]
    boto3.client("s3", endpoint_url=s3, region_name="us-east-1").create_bucket(Bucket=name)
    return f"s3://{name}/attachments"


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "kept")
    found: str = request.getfixturevalue("bucket")
    return found


def a_file(folder: Path) -> Path:
    file = folder / "coming"
    file.write_bytes(CONTENT)
    return file


async def test_what_is_kept_is_told_by_every_store_onto_the_same_place(url: str, tmp_path: Path) -> None:
    one, two = AttachmentStore(url), AttachmentStore(url)
    assert await one.told("abc") is None

    await one.keep("abc", TOLD, a_file(tmp_path))
    await one.keep("gone", Told("missing"))

    assert await two.told("abc") == TOLD
    assert await two.told("gone") == Told("missing")
    assert await two.told("never") is None


async def test_the_bytes_are_those_that_came(bucket: str, s3: str, tmp_path: Path) -> None:
    await AttachmentStore(bucket).keep("abc", TOLD, a_file(tmp_path))

    name, _, folder = bucket.removeprefix("s3://").partition("/")
    kept = boto3.client("s3", endpoint_url=s3, region_name="us-east-1").get_object(Bucket=name, Key=f"{folder}/abc")
    assert kept["Body"].read() == CONTENT


async def test_keeping_again_replaces_in_one_step_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    store = AttachmentStore(folder.as_uri())
    for _ in range(2):
        await store.keep("abc", TOLD, a_file(tmp_path))

    assert sorted(path.name for path in folder.iterdir()) == ["abc", "abc.json"]
    assert (folder / "abc").read_bytes() == CONTENT
    assert stat.S_IMODE((folder / "abc").stat().st_mode) == 0o644


async def test_a_sidecar_that_is_not_ours_is_said(tmp_path: Path) -> None:
    (tmp_path / "abc.json").write_text("[1]")

    with pytest.raises(Misconfigured, match="another `store`"):
        await AttachmentStore(str(tmp_path)).told("abc")


async def test_a_bucket_that_is_not_there_is_unavailable(bucket: str) -> None:
    with pytest.raises(Unavailable, match="does not work"):
        await AttachmentStore("s3://no-such-bucket-here/x").keep("abc", Told("missing"))


@pytest.mark.parametrize(
    ("written", "read"),
    [("s3://bucket/a/", "s3://bucket/a"), ("file:///var/kept", "file:///var/kept"), ("/var/kept", "file:///var/kept")],
)
def test_a_store_is_named_by_a_path_or_a_url(written: str, read: str) -> None:
    assert store_url(written) == read


def test_another_kind_of_url_is_refused() -> None:
    with pytest.raises(ValueError, match="s3://"):
        store_url("ftp://host/kept")
