"""Blobs and documents on the stores that fsspec speaks."""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raymill.kernel.settings import Settings, StorageSettings
from raymill.kernel.storage import BlobNotFound, ObjectStore, StoreUnavailable
from s3_server import BUCKET, S3Server, s3_server
from servers import free_ports


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def store_at(url: str, home: Path, **options: Any) -> ObjectStore:
    return ObjectStore(Settings(home=home, storage=StorageSettings(url=url, options=options)))


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        yield store_at(f"s3://{BUCKET}/{uuid4().hex}", tmp_path, **server.options)
        return
    root = f"memory://{uuid4().hex}" if request.param == "memory" else f"file://{tmp_path / 'store'}"
    yield store_at(root, tmp_path)
    memory, path = fsspec.filesystem("memory"), root.removeprefix("memory:/")
    if memory.exists(path):
        memory.rm(path, recursive=True)


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    path = tmp_path / "upload"
    path.write_bytes(b"content")
    return path


def stored(store: ObjectStore) -> list[str]:
    return store.list_documents("")


def test_a_file_is_stored_under_its_digest(store: ObjectStore, upload: Path) -> None:
    blob = store.put_file("prj_1", upload)
    digest = hashlib.sha256(b"content").hexdigest()
    assert (blob.sha256, blob.size_bytes) == (digest, 7)
    assert blob.uri == f"prj_1/sha256/{digest[:2]}/{digest}"
    assert b"".join(store.chunks(blob.uri)) == b"content"
    assert upload.exists()


def test_equal_content_is_stored_once_in_a_project_and_never_shared(store: ObjectStore, upload: Path) -> None:
    first, second, other = (store.put_file(project, upload) for project in ("prj_1", "prj_1", "prj_2"))
    assert first == second
    assert stored(store) == sorted([first.uri, other.uri])
    store.delete(first.uri)
    assert b"".join(store.chunks(other.uri)) == b"content"


def test_parallel_uploads_of_one_content_leave_one_whole_blob(store: ObjectStore, upload: Path) -> None:
    upload.write_bytes(b"x" * 3_000_000)
    with ThreadPoolExecutor(8) as pool:
        blobs = list(pool.map(lambda _: store.put_file("prj_1", upload), range(16)))
    assert len(set(blobs)) == 1
    assert stored(store) == [blobs[0].uri]
    assert sum(map(len, store.chunks(blobs[0].uri))) == 3_000_000


@given(st.integers(0, 3_000_000), st.none() | st.integers(0, 3_000_000))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range_can_be_read(store: ObjectStore, upload: Path, start: int, stop: int | None) -> None:
    content = bytes(range(256)) * 10_000
    upload.write_bytes(content)
    blob = store.put_file("prj_1", upload)
    pieces = list(store.chunks(blob.uri, start=start, stop=stop))
    assert b"".join(pieces) == content[start:stop]
    assert all(0 < len(piece) <= 1 << 20 for piece in pieces)


def test_a_blob_is_fetched_whole(store: ObjectStore, upload: Path, tmp_path: Path) -> None:
    blob = store.put_file("prj_1", upload)
    target = tmp_path / "new" / "folder" / "file"
    store.fetch(blob.uri, target)
    assert target.read_bytes() == b"content"
    assert list(target.parent.iterdir()) == [target]


def test_what_is_not_there_is_named(store: ObjectStore, tmp_path: Path) -> None:
    uri = "prj_1/sha256/ab/abc"
    for read in (lambda: store.open(uri), lambda: store.get_document(uri), lambda: list(store.chunks(uri))):
        with pytest.raises(BlobNotFound, match=uri):
            read()
    with pytest.raises(BlobNotFound):
        store.fetch(uri, tmp_path / "fetched" / "file")
    assert list((tmp_path / "fetched").iterdir()) == []
    store.delete(uri)


def test_a_missing_upload_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put_file("prj_1", tmp_path / "none")
    assert stored(store) == []


def test_documents_are_replaced_whole(store: ObjectStore) -> None:
    for content in (b"first, and longer", b"second"):
        store.put_document(".serving/endpoint/a.json", content)
    store.put_document(".serving/grants/b.json", b"{}")
    assert store.get_document(".serving/endpoint/a.json") == b"second"
    assert store.list_documents(".serving/endpoint") == [".serving/endpoint/a.json"]
    assert len(store.list_documents(".serving")) == 2
    assert store.list_documents("nothing") == []


def test_a_store_that_takes_writes_answers_the_ping_and_keeps_nothing(store: ObjectStore) -> None:
    store.ping()
    assert stored(store) == []


def test_a_store_that_takes_no_writes_fails_the_ping(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = ObjectStore(Settings(home=tmp_path, storage=StorageSettings(url=f"file://{tmp_path}/file/store")))
    with pytest.raises(OSError):
        store.ping()


def test_the_default_store_lies_under_home(tmp_path: Path, upload: Path) -> None:
    blob = ObjectStore(Settings(home=tmp_path)).put_file("prj_1", upload)
    assert (tmp_path / "objects" / blob.uri).read_bytes() == b"content"


@pytest.mark.integration
def test_what_another_process_removed_is_stored_again(s3: S3Server, tmp_path: Path, upload: Path) -> None:
    store = store_at(f"s3://{BUCKET}/shared", tmp_path, **s3.options)
    blob = store.put_file("prj_1", upload)
    assert stored(store) == [blob.uri]
    s3.files().rm_file(f"{BUCKET}/shared/{blob.uri}")
    assert stored(store) == []
    assert store.put_file("prj_1", upload) == blob
    assert b"".join(store.chunks(blob.uri)) == b"content"


@pytest.mark.integration
def test_a_large_file_reaches_s3_in_parts(s3: S3Server, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(101 * 2**20)
        file.seek(60 * 2**20)
        file.write(b"middle")
    store = store_at(f"s3://{BUCKET}/large", tmp_path, **s3.options)
    blob = store.put_file("prj_1", path)
    start = 60 * 2**20
    assert b"".join(store.chunks(blob.uri, start=start, stop=start + 6)) == b"middle"
    store.fetch(blob.uri, tmp_path / "fetched")
    assert hashlib.sha256((tmp_path / "fetched").read_bytes()).hexdigest() == blob.sha256


@pytest.mark.integration
@pytest.mark.parametrize("fault", [{"secret": "wrong"}, {"bucket": "none"}], ids=["secret", "bucket"])
def test_a_store_that_refuses_says_so_in_one_shape(s3: S3Server, tmp_path: Path, fault: dict[str, str]) -> None:
    bucket = fault.pop("bucket", BUCKET)
    store = store_at(f"s3://{bucket}/x", tmp_path, **{**s3.options, **fault})
    with pytest.raises(StoreUnavailable):
        store.ping()


def test_a_store_that_is_not_there_is_given_up_soon(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    store = store_at("s3://none/x", tmp_path, key="k", secret="s", endpoint_url=nowhere)
    started = time.monotonic()
    for use in (store.ping, lambda: store.get_document("a"), lambda: store.fetch("a", tmp_path / "a")):
        with pytest.raises(StoreUnavailable):
            use()
    assert time.monotonic() - started < 15
