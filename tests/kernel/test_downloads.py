"""Byte ranges and the answers they get."""

from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from raymill.gateway import errors
from raymill.kernel.downloads import RangeNotSatisfiable, blob_answer, parse_range
from raymill.kernel.settings import Settings
from raymill.kernel.storage import Blob, ObjectStore

CONTENT = bytes(range(256)) * 20


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200))
def test_a_range_is_what_slicing_gives(first: int, last: int, size: int) -> None:
    content = bytes(size)
    for header, expected in (
        (f"bytes={first}-{last}", None if last < first else content[first : last + 1]),
        (f"bytes={first}-", content[first:]),
        (f"bytes=-{first}", content[max(0, size - first) :] if first else b""),
    ):
        try:
            found = parse_range(header, size)
        except RangeNotSatisfiable:
            assert expected == b""
            continue
        assert (None if found is None else len(content[slice(*found)])) == (None if expected is None else len(expected))


@pytest.mark.parametrize(
    "header", ["", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,3-4", "bytes=" + "9" * 5000 + "-"]
)
def test_what_is_no_single_range_is_ignored(header: str) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=0-", "bytes=-1"])
def test_an_empty_content_has_no_ranges(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 0)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(Settings(home=tmp_path))


@pytest.fixture
def blob(store: ObjectStore, tmp_path: Path) -> Blob:
    (tmp_path / "upload").write_bytes(CONTENT)
    return store.put_file("prj_1", tmp_path / "upload")


@pytest.fixture
def client(store: ObjectStore, blob: Blob) -> TestClient:
    app = FastAPI()
    errors.install(app)

    @app.api_route("/file", methods=["GET", "HEAD"])
    def download(request: Request) -> Response:
        name = 'Gr\u00fc\u00dfe "1".bin'
        return blob_answer(store, blob, method=request.method, headers=request.headers, filename=name)

    return TestClient(app)


def test_the_whole_and_a_part(client: TestClient, blob: Blob) -> None:
    whole = client.get("/file")
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert whole.headers["content-length"] == str(len(CONTENT))
    assert whole.headers["etag"] == f'"{blob.sha256}"'
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%221%22.bin"
    part = client.get("/file", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, CONTENT[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(CONTENT)}"


def test_a_head_has_no_body(client: TestClient) -> None:
    head = client.head("/file", headers={"Range": "bytes=10-19"})
    assert (head.status_code, head.content, head.headers["content-length"]) == (206, b"", "10")


def test_a_range_beyond_the_end_says_how_long_the_content_is(client: TestClient) -> None:
    answer = client.get("/file", headers={"Range": f"bytes={len(CONTENT)}-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
    assert answer.json()["type"] == "VALIDATION_ERROR"


def test_a_changed_content_is_sent_whole(client: TestClient, blob: Blob) -> None:
    for tag, status in ((f'"{blob.sha256}"', 206), ('"other"', 200)):
        assert client.get("/file", headers={"Range": "bytes=0-1", "If-Range": tag}).status_code == status


def test_a_lost_blob_is_not_found_before_anything_is_sent(client: TestClient, store: ObjectStore, blob: Blob) -> None:
    store.delete(blob.uri)
    answer = client.get("/file")
    assert (answer.status_code, answer.json()["type"]) == (404, "RESOURCE_NOT_FOUND")
