"""Models, versions and artifacts over HTTP."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import save
from sqlmodel import select

from factories import Tenant
from onnx_makers import external, linear_model, linear_onnx
from raymill.kernel.resources import Resources
from raymill.registry import lineage, pins
from raymill.registry.models import Artifact, LineageEdge, ModelVersion
from registry_makers import import_version, make_draft, make_model

pytestmark = pytest.mark.integration


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def count(resources: Resources, table: type[Any]) -> int:
    with resources.session() as session:
        return len(session.exec(select(table)).all())


def test_a_new_model_has_every_field(alice: Tenant) -> None:
    model_id = make_model(alice, description="of numbers", framework="pytorch", metadata={"team": "vision"})
    model = alice.get(f"/models/{model_id}").json()
    assert model["id"].startswith("mdl_")
    assert model["project_id"] == alice.project_id
    assert (model["name"], model["description"], model["framework"]) == ("digits", "of numbers", "pytorch")
    assert (model["version"], model["artifacts"], model["metadata"], model["performance"]) == (
        None, [], {"team": "vision"}, {},
    )  # fmt: skip
    assert model["created_at"].endswith("Z")
    assert model["updated_at"].endswith("Z")


def test_a_version_goes_from_draft_to_ready(alice: Tenant) -> None:
    model_id = make_model(alice, framework="pytorch")
    draft = make_draft(alice, model_id, metrics={"accuracy": 0.9}, source={"kind": "training_job", "id": "job_1"})
    assert (draft["version"], draft["status"], draft["framework"]) == (1, "draft", "pytorch")
    one = f"/models/{model_id}/versions/1"
    for path, type_, content in [
        ("model.onnx", "model", linear_onnx()), ("net/weights.safetensors", "weights", b"w"),
        ("config.json", "config", b"{}"),
    ]:  # fmt: skip
        artifact = alice.put(f"{one}/artifacts/{path}", params={"type": type_}, content=content).json()
        assert (artifact["path"], artifact["type"], artifact["size"]) == (path, type_, len(content))
        assert artifact["checksum"] == hashlib.sha256(content).hexdigest()
    ready = alice.post(f"{one}/complete", json={"metrics": {"accuracy": 0.97}}).json()
    assert (ready["status"], ready["metrics"], ready["error"]) == ("ready", {"accuracy": 0.97}, None)
    (given,) = ready["signature"]["inputs"]
    assert (given["name"], given["datatype"], given["shape"], given["columns"]) == ("x", "FP32", [-1, 2], None)
    assert ready["source"] == {"kind": "training_job", "id": "job_1", "filename": None}
    assert alice.get(one).json() == ready
    model = alice.get(f"/models/{model_id}").json()
    assert (model["version"], model["performance"]) == (1, {"accuracy": 0.97})
    assert [one["path"] for one in model["artifacts"]] == ["config.json", "model.onnx", "net/weights.safetensors"]


def test_a_ready_version_never_changes(alice: Tenant) -> None:
    model_id = make_model(alice)
    ready = import_version(alice, model_id)
    one = f"/models/{model_id}/versions/1"
    assert alice.put(f"{one}/artifacts/other.bin", content=b"x").status_code == 409
    assert alice.post(f"{one}/fail", json={"error": "no"}).status_code == 409
    again = alice.post(f"{one}/complete", json={"metrics": {"accuracy": 1.0}})
    assert (again.status_code, again.json()) == (200, ready)


def test_a_version_without_artifacts_is_not_completed(alice: Tenant) -> None:
    model_id = make_model(alice)
    make_draft(alice, model_id)
    assert alice.post(f"/models/{model_id}/versions/1/complete", json={}).status_code == 409


def test_a_failed_version_says_why_and_stays_failed(alice: Tenant) -> None:
    model_id = make_model(alice)
    make_draft(alice, model_id)
    failed = alice.post(f"/models/{model_id}/versions/1/fail", json={"error": "out of memory"}).json()
    assert (failed["status"], failed["error"]) == ("failed", "out of memory")
    assert alice.put(f"/models/{model_id}/versions/1/artifacts/m.onnx", content=b"x").status_code == 409
    assert alice.post(f"/models/{model_id}/versions/1/complete", json={}).status_code == 409


def test_an_artifact_of_a_draft_can_be_replaced(alice: Tenant) -> None:
    model_id = make_model(alice)
    make_draft(alice, model_id)
    one = f"/models/{model_id}/versions/1"
    for content in (b"not onnx", linear_onnx()):
        assert alice.put(f"{one}/artifacts/model.onnx", content=content).status_code == 200
    assert len(alice.get(one).json()["artifacts"]) == 1
    assert alice.post(f"{one}/complete", json={}).json()["status"] == "ready"


def test_completing_with_a_broken_graph_leaves_a_draft(alice: Tenant, resources: Resources) -> None:
    model_id = make_model(alice)
    make_draft(alice, model_id)
    one = f"/models/{model_id}/versions/1"
    alice.put(f"{one}/artifacts/model.onnx", content=b"not onnx")
    refused = alice.post(f"{one}/complete", json={})
    assert (refused.status_code, refused.json()["type"]) == (422, "VALIDATION_ERROR")
    assert alice.get(one).json()["status"] == "draft"
    assert files_below(resources.settings.home / "tmp") == []


def test_a_given_signature_is_kept_and_checked(alice: Tenant) -> None:
    model_id = make_model(alice)
    spec = {"name": "x", "datatype": "FP32", "shape": [-1, 2], "columns": ["a", "b"]}
    good = {"inputs": [spec], "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}], "labels": [0, 1, 2]}
    bad = good | {"inputs": [spec | {"datatype": "FP64"}]}
    make_draft(alice, model_id, signature=bad)
    one = f"/models/{model_id}/versions/1"
    alice.put(f"{one}/artifacts/model.onnx", content=linear_onnx())
    assert alice.post(f"{one}/complete", json={}).status_code == 422
    ready = alice.post(f"{one}/complete", json={"signature": good}).json()
    assert ready["signature"]["inputs"][0]["columns"] == ["a", "b"]
    assert ready["signature"]["labels"] == [0, 1, 2]


def test_a_version_without_onnx_may_have_no_signature(alice: Tenant) -> None:
    model_id = make_model(alice)
    make_draft(alice, model_id)
    alice.put(f"/models/{model_id}/versions/1/artifacts/weights.bin", params={"type": "weights"}, content=b"w")
    ready = alice.post(f"/models/{model_id}/versions/1/complete", json={}).json()
    assert (ready["status"], ready["signature"]) == ("ready", None)


def test_an_onnx_file_is_imported(alice: Tenant) -> None:
    model_id = make_model(alice)
    version = import_version(alice, model_id)
    assert (version["version"], version["status"], version["source"]["kind"]) == (1, "ready", "import")
    assert version["signature"]["outputs"][0]["shape"] == [-1, 3]
    content = alice.get(f"/models/{model_id}/versions/1/artifacts/model.onnx").content
    assert content == linear_onnx()


def external_onnx() -> bytes:
    model: onnx.ModelProto = linear_model()
    external(model.graph.initializer[0])
    content: bytes = model.SerializeToString()
    return content


def plain_safetensors(**metadata: str) -> bytes:
    return save({"w": np.ones(2, np.float32)}, metadata=metadata)


SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
}


@pytest.mark.parametrize(
    ("filename", "content", "params"),
    [
        ("My Model.PT", b"any program", {"signature": json.dumps(SIGNATURE)}),
        ("m.safetensors", plain_safetensors(raymill=json.dumps({"signature": SIGNATURE})), {}),
    ],
)
def test_other_files_are_imported_with_their_signature(
    alice: Tenant, filename: str, content: bytes, params: dict[str, str]
) -> None:
    path = f"/models/{make_model(alice)}/versions/import"
    answer = alice.post(path, params={"filename": filename, **params}, content=content)
    assert answer.status_code == 201, answer.text
    version = answer.json()
    assert version["artifacts"][0]["path"] == f"model{Path(filename).suffix.lower()}"
    assert version["signature"]["inputs"][0] | {"shape": [-1, 4]} == version["signature"]["inputs"][0]
    assert (version["status"], version["signature"]["outputs"][0]["name"]) == ("ready", "y")


@pytest.mark.parametrize(
    ("content", "filename", "status"),
    [
        (b"not onnx", "m.onnx", 422),
        (external_onnx(), "m.onnx", 422),
        (b"", "m.onnx", 400),
        (linear_onnx(), "m.pickle", 415),
        (b"any program", "m.pt", 422),
        (b"no header", "m.safetensors", 422),
        (plain_safetensors(), "weights.safetensors", 422),
    ],
)
def test_bad_imports_leave_nothing_behind(
    alice: Tenant, resources: Resources, content: bytes, filename: str, status: int
) -> None:
    model_id = make_model(alice)
    refused = alice.post(f"/models/{model_id}/versions/import", params={"filename": filename}, content=content)
    assert (refused.status_code, refused.json()["type"]) == (status, "VALIDATION_ERROR")
    assert count(resources, ModelVersion) == count(resources, Artifact) == 0
    assert files_below(resources.settings.home / "tmp") == files_below(resources.settings.home / "objects") == []
    assert import_version(alice, model_id)["version"] == 1


@pytest.mark.parametrize("path", ["..%2Fsecret", "a/%2E%2E/b", "a//b", "%2Fetc", "a b", "x" * 600, "a%00b"])
def test_bad_artifact_paths_are_refused(alice: Tenant, resources: Resources, path: str) -> None:
    model_id = make_model(alice)
    make_draft(alice, model_id)
    answer = alice.put(f"/models/{model_id}/versions/1/artifacts/{path}", content=b"x")
    assert answer.status_code in {404, 422}, answer.text
    assert count(resources, Artifact) == 0


def test_a_part_of_an_artifact_can_be_read(alice: Tenant) -> None:
    model_id = make_model(alice)
    import_version(alice, model_id)
    path = f"/models/{model_id}/versions/1/artifacts/model.onnx"
    part = alice.get(path, headers={"Range": "bytes=1-4"})
    assert (part.status_code, part.content) == (206, linear_onnx()[1:5])
    head = alice.request("HEAD", path)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(linear_onnx())))
    assert alice.get(f"/models/{model_id}/versions/1/artifacts/other").status_code == 404


def test_names_are_unique_and_checked(alice: Tenant, bob: Tenant) -> None:
    make_model(alice)
    assert alice.post("/models", json={"project_id": alice.project_id, "name": "digits"}).status_code == 409
    assert alice.post("/models", json={"project_id": alice.project_id, "name": "Dotted.Name"}).status_code == 422
    assert (
        alice.post("/models", json={"project_id": alice.project_id, "name": "n", "framework": "cobol"}).status_code
        == 422
    )
    make_model(bob)


def test_a_model_can_be_changed(alice: Tenant) -> None:
    model_id = make_model(alice)
    changed = alice.patch(f"/models/{model_id}", json={"metadata": {"a": 1}, "description": "d"}).json()
    assert (changed["metadata"], changed["description"], changed["framework"]) == ({"a": 1}, "d", "custom")
    assert alice.patch(f"/models/{model_id}", json={"name": "other"}).status_code == 422


def test_lists_can_be_narrowed_and_paged(alice: Tenant) -> None:
    ids = [make_model(alice, f"m{n}") for n in range(3)]
    for _ in range(3):
        import_version(alice, ids[0])
    assert [item["id"] for item in alice.get("/models", params={"name": "m1"}).json()["items"]] == [ids[1]]
    page = alice.get(f"/models/{ids[0]}/versions", params={"limit": 2}).json()
    rest = alice.get(f"/models/{ids[0]}/versions", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [item["version"] for item in page["items"] + rest["items"]] == [3, 2, 1]


def test_parallel_creations_get_consecutive_numbers(alice: Tenant) -> None:
    model_id = make_model(alice)
    with ThreadPoolExecutor(8) as pool:
        drafts = list(pool.map(lambda _: make_draft(alice, model_id), range(8)))
    assert sorted(draft["version"] for draft in drafts) == list(range(1, 9))


def test_one_key_makes_one_version(alice: Tenant) -> None:
    model_id = make_model(alice)
    headers = {"Idempotency-Key": "k"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda _: alice.post(f"/models/{model_id}/versions", json={}, headers=headers).json(), range(4))
        )
    assert all(answer == answers[0] for answer in answers)
    assert len(alice.get(f"/models/{model_id}/versions").json()["items"]) == 1


def test_a_deleted_number_never_comes_again(alice: Tenant, resources: Resources) -> None:
    model_id = make_model(alice)
    import_version(alice, model_id)
    assert alice.delete(f"/models/{model_id}/versions/1").status_code == 204
    assert count(resources, Artifact) == 0
    assert alice.get(f"/models/{model_id}").json()["version"] is None
    assert import_version(alice, model_id)["version"] == 2


def test_a_pinned_version_is_not_deleted(alice: Tenant, resources: Resources) -> None:
    model_id = make_model(alice)
    version = import_version(alice, model_id)
    with resources.session() as session:
        for owner in ("deployment digits", "deployment digits", "deployment other"):
            pins.pin(session, version_id=version["id"], owner=owner)
    for path in (f"/models/{model_id}/versions/1", f"/models/{model_id}"):
        refused = alice.delete(path)
        assert (refused.status_code, refused.json()["type"]) == (409, "RESOURCE_CONFLICT")
        assert refused.json()["details"] == {"owners": ["deployment digits", "deployment other"]}
        assert "deployment digits" in refused.json()["message"]
    assert alice.get(f"/models/{model_id}/versions/1").status_code == 200
    with resources.session() as session:
        pins.unpin(session, version_id=version["id"], owner="deployment digits")
        assert pins.owners(session, version["id"]) == ["deployment other"]
        pins.unpin(session, version_id=version["id"], owner="deployment other")
    assert alice.delete(f"/models/{model_id}").status_code == 204
    assert count(resources, ModelVersion) == 0


def test_lineage_goes_with_the_version(alice: Tenant, resources: Resources) -> None:
    model_id = make_model(alice)
    version = import_version(alice, model_id)
    with resources.session() as session:
        job, made = ("training_job", "job_1"), ("model_version", version["id"])
        lineage.link(session, project_id=alice.project_id, source=("dataset_version", "dsv_1"), target=job)
        lineage.link(session, project_id=alice.project_id, source=job, target=made)
    edges = alice.get(f"/models/{model_id}/versions/1").json()["lineage"]
    assert [(edge["source_id"], edge["target_id"]) for edge in edges] == [("dsv_1", "job_1"), ("job_1", version["id"])]
    assert alice.get(f"/models/{model_id}/versions").json()["items"][0]["lineage"] == edges
    alice.delete(f"/models/{model_id}/versions/1")
    assert count(resources, LineageEdge) == 1


def test_strangers_and_the_nameless_are_kept_out(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    model_id = make_model(alice)
    import_version(alice, model_id)
    one, version = f"/models/{model_id}", f"/models/{model_id}/versions/1"
    routes: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", one, {}), ("PATCH", one, {"json": {}}), ("DELETE", one, {}),
        ("GET", f"{one}/versions", {}), ("POST", f"{one}/versions", {"json": {}}),
        ("POST", f"{one}/versions/import?filename=m.onnx", {"content": linear_onnx()}),
        ("GET", version, {}), ("DELETE", version, {}), ("POST", f"{version}/complete", {"json": {}}),
        ("POST", f"{version}/fail", {"json": {"error": "e"}}),
        ("PUT", f"{version}/artifacts/a", {"content": b"x"}), ("GET", f"{version}/artifacts/model.onnx", {}),
    ]  # fmt: skip
    for method, path, body in routes:
        assert client.request(method, f"/api/v1{path}", **body).status_code == 401, (method, path)
        refused = bob.request(method, path, **body)
        assert refused.status_code == 404, (method, path)
        assert alice.project_id not in refused.text
    assert bob.get("/models").json()["items"] == []
    assert bob.post("/models", json={"project_id": alice.project_id, "name": "n"}).status_code == 404
    assert alice.get(version).json()["status"] == "ready"


def test_a_viewer_reads_and_does_not_write(alice: Tenant, bob: Tenant) -> None:
    model_id = make_model(alice)
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "viewer"})
    assert bob.get(f"/models/{model_id}").status_code == 200
    refused = bob.post(f"/models/{model_id}/versions/import", params={"filename": "m.onnx"}, content=linear_onnx())
    assert refused.json()["details"] == {"permission": "model:write"}
