"""Datasets over HTTP."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlmodel import select

from data_makers import DIGITS, make_dataset, upload, uploaded
from factories import Tenant
from raymill.data.models import DatasetVersion
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def rows(resources: Resources) -> int:
    with resources.session() as session:
        return len(session.exec(select(DatasetVersion)).all())


def test_an_upload_is_kept_as_parquet_and_described(alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    version = uploaded(alice, dataset_id, b"pixel,label\n0,zero\n1,one\n1,one\n,two\n")
    assert (version["dataset_id"], version["version"], version["row_count"]) == (dataset_id, 1, 4)
    assert version["schema"]["columns"] == [
        {"name": "pixel", "type": "int64", "nullable": True},
        {"name": "label", "type": "string", "nullable": True},
    ]
    pixel = version["statistics"]["columns"]["pixel"]
    assert (pixel["count"], pixel["nulls"], pixel["distinct"], pixel["min"], pixel["max"]) == (3, 1, 2, 0, 1)
    assert pixel["mean"] == pytest.approx(2 / 3)
    assert version["statistics"]["columns"]["label"]["top"][0] == {"value": "one", "count": 2}
    assert version["quality"] == {"null_share": 0.125, "duplicate_rows": 1}
    assert version["lineage"]["filename"] == "train.csv"
    assert version["lineage"]["uploaded_by"] == alice.user_id


def test_a_dataset_shows_its_newest_version(alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    empty = alice.get(f"/datasets/{dataset_id}").json()
    assert (empty["version"], empty["schema"], empty["statistics"]) == (None, None, None)
    uploaded(alice, dataset_id)
    second = uploaded(alice, dataset_id, b"a\n1\n")
    shown = alice.get(f"/datasets/{dataset_id}").json()
    for field in ("version", "row_count", "size_bytes", "schema", "statistics", "quality", "lineage"):
        assert shown[field] == second[field]
    assert alice.get("/datasets").json()["items"] == [shown]


def test_the_content_is_what_was_uploaded(alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    version = uploaded(alice, dataset_id)
    content = alice.get(f"/datasets/{dataset_id}/versions/1/content")
    assert hashlib.sha256(content.content).hexdigest() == version["sha256"]
    assert len(content.content) == version["size_bytes"] == int(content.headers["content-length"])
    assert pq.read_table(io.BytesIO(content.content)).to_pylist()[2] == {"pixel": 2, "label": "two"}


def test_parquet_is_read_as_it_is_downloaded(alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    uploaded(alice, dataset_id)
    content = alice.get(f"/datasets/{dataset_id}/versions/1/content").content
    again = upload(alice, dataset_id, content, "copy.parquet").json()
    assert (again["version"], again["row_count"]) == (2, 3)


def test_a_part_of_the_content_can_be_read(alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    size = uploaded(alice, dataset_id)["size_bytes"]
    path = f"/datasets/{dataset_id}/versions/1/content"
    part = alice.get(path, headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"PAR1", f"bytes 0-3/{size}")
    assert alice.get(path, headers={"Range": "bytes=-4"}).content == b"PAR1"
    beyond = alice.get(path, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.json()["type"]) == (416, "VALIDATION_ERROR")
    head = alice.request("HEAD", path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))


def test_versions_are_listed_and_deleted_and_numbers_never_come_again(alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    for _ in range(3):
        uploaded(alice, dataset_id)
    versions = f"/datasets/{dataset_id}/versions"
    assert [item["version"] for item in alice.get(versions).json()["items"]] == [3, 2, 1]
    assert alice.delete(f"{versions}/3").status_code == 204
    assert alice.get(f"{versions}/3").status_code == 404
    assert alice.get(f"{versions}/2").json()["version"] == 2
    assert uploaded(alice, dataset_id)["version"] == 4


def test_names_are_unique_in_a_project(alice: Tenant, bob: Tenant) -> None:
    make_dataset(alice)
    answer = alice.post("/datasets", json={"project_id": alice.project_id, "name": "digits"})
    assert (answer.status_code, answer.json()["type"]) == (409, "RESOURCE_CONFLICT")
    make_dataset(bob)


def test_lists_can_be_narrowed(alice: Tenant) -> None:
    other = alice.post("/projects", json={"name": "other"}).json()["id"]
    kept = make_dataset(alice)
    alice.post("/datasets", json={"project_id": other, "name": "elsewhere"})
    assert [item["id"] for item in alice.get("/datasets", params={"project_id": alice.project_id}).json()["items"]] == [
        kept
    ]
    assert [item["id"] for item in alice.get("/datasets", params={"name": "digits"}).json()["items"]] == [kept]


def test_a_dataset_can_be_described_and_deleted(alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    uploaded(alice, dataset_id)
    assert alice.patch(f"/datasets/{dataset_id}", json={"description": "d"}).json()["description"] == "d"
    assert alice.patch(f"/datasets/{dataset_id}", json={"name": "other"}).status_code == 422
    assert alice.delete(f"/datasets/{dataset_id}").status_code == 204
    assert alice.get(f"/datasets/{dataset_id}").status_code == 404
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 204


def test_a_project_with_datasets_stays(alice: Tenant) -> None:
    make_dataset(alice)
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 409


def test_creating_twice_with_one_key_makes_one(alice: Tenant) -> None:
    body = {"project_id": alice.project_id, "name": "once"}
    answers = [alice.post("/datasets", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()


def test_strangers_and_the_nameless_are_kept_out(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    dataset_id = make_dataset(alice)
    uploaded(alice, dataset_id)
    one, version = f"/datasets/{dataset_id}", f"/datasets/{dataset_id}/versions/1"
    routes = [
        ("GET", one), ("PATCH", one), ("DELETE", one), ("GET", f"{one}/versions"),
        ("POST", f"{one}/versions?filename=a.csv"), ("GET", version), ("DELETE", version),
        ("GET", f"{version}/content"), ("HEAD", f"{version}/content"),
    ]  # fmt: skip
    for method, path in routes:
        body = {"content": DIGITS} if method == "POST" else {"json": {}} if method == "PATCH" else {}
        assert client.request(method, f"/api/v1{path}", **body).status_code == 401, (method, path)
        refused = bob.request(method, path, **body)
        assert refused.status_code == 404, (method, path)
        assert alice.project_id not in refused.text
    assert bob.get("/datasets").json()["items"] == []
    assert bob.post("/datasets", json={"project_id": alice.project_id, "name": "n"}).status_code == 404
    assert alice.get(version).status_code == 200


def test_a_viewer_reads_and_does_not_write(alice: Tenant, bob: Tenant) -> None:
    dataset_id = make_dataset(alice)
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "viewer"})
    assert bob.get(f"/datasets/{dataset_id}").status_code == 200
    refused = upload(bob, dataset_id)
    assert (refused.status_code, refused.json()["details"]) == (403, {"permission": "dataset:write"})


@pytest.mark.parametrize(
    ("content", "filename", "status", "details"),
    [
        (b"a,b\n1,2\n3,4,5\n", "t.csv", 400, {"row": 3}),
        (b"a,b\n1,\xff\n", "t.csv", 422, {"column": "b"}),
        (b"a,b\n", "t.csv", 422, {}),
        (b"", "t.csv", 400, {}),
        (b"no parquet", "t.parquet", 400, {}),
        (b"a\n1\n", "t.xlsx", 415, {}),
    ],
)
def test_bad_uploads_leave_nothing_behind(
    alice: Tenant, resources: Resources, content: bytes, filename: str, status: int, details: dict[str, object]
) -> None:
    dataset_id = make_dataset(alice)
    refused = upload(alice, dataset_id, content, filename)
    assert (refused.status_code, refused.json()["type"]) == (status, "VALIDATION_ERROR")
    assert refused.json()["details"] == details
    assert rows(resources) == 0
    assert files_below(resources.settings.home / "tmp") == []
    assert files_below(resources.settings.home / "objects") == []
    assert uploaded(alice, dataset_id)["version"] == 1


def test_a_file_beyond_the_limit_is_refused(alice: Tenant, resources: Resources) -> None:
    dataset_id = make_dataset(alice)
    resources.settings.http.max_upload_bytes = 10
    assert upload(alice, dataset_id).status_code == 413
    assert files_below(resources.settings.home / "tmp") == []


def test_a_name_that_the_database_cannot_hold_is_refused(alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    assert upload(alice, dataset_id, DIGITS, "a\0.csv").status_code == 422


def test_equal_uploads_share_one_blob(alice: Tenant, resources: Resources) -> None:
    first, second = make_dataset(alice, "one"), make_dataset(alice, "two")
    assert uploaded(alice, first)["sha256"] == uploaded(alice, second)["sha256"]
    assert len(files_below(resources.settings.home / "objects")) == 1
    alice.delete(f"/datasets/{first}")
    assert alice.get(f"/datasets/{second}/versions/1/content").status_code == 200


def test_parallel_uploads_get_consecutive_numbers(alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: uploaded(alice, dataset_id, f"a\n{n}\n".encode()), range(8)))
    assert sorted(answer["version"] for answer in answers) == list(range(1, 9))


def test_a_large_upload_needs_little_memory(app: FastAPI, alice: Tenant) -> None:
    dataset_id = make_dataset(alice)
    line = b",".join(b"%d" % (n * 7919) for n in range(32)) + b"\n"
    piece = line * (1_000_000 // len(line))

    async def body() -> AsyncIterator[bytes]:
        yield b",".join(b"c%d" % n for n in range(32)) + b"\n"
        for _ in range(150):
            yield piece

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, root_path="/api")
        headers = {"Authorization": f"Bearer {alice.tokens['access_token']}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            return await client.post(
                f"/api/v1/datasets/{dataset_id}/versions?filename=big.csv", content=body(), timeout=60
            )

    uploaded(alice, dataset_id)  # loads what every upload needs
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    answer = asyncio.run(send())
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    assert answer.status_code == 201
    assert answer.json()["row_count"] == 150 * (len(piece) // len(line))
    assert peak - before < 200 << 20, f"{(peak - before) >> 20} MB"
