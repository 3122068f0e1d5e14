"""Blobs and documents on the stores that fsspec speaks."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raymill.kernel.settings import Settings, StorageSettings
from raymill.kernel.storage import BlobNotFound, ObjectStore


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    root = f"memory://{uuid4().hex}" if request.param == "memory" else f"file://{tmp_path / 'store'}"
    yield ObjectStore(Settings(home=tmp_path, storage=StorageSettings(url=root)))
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
