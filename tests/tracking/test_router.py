"""Experiments, runs and metrics over HTTP."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from factories import Tenant
from raymill.kernel.resources import Resources
from raymill.tracking import service
from raymill.tracking.models import Experiment, RunMetric

pytestmark = pytest.mark.integration


def start_run(tenant: Tenant, **fields: Any) -> dict[str, Any]:
    answer = tenant.post("/runs", json={"project_id": tenant.project_id, "experiment": "digits"} | fields)
    assert answer.status_code == 201, answer.text
    run: dict[str, Any] = answer.json()
    return run


def log(tenant: Tenant, run_id: str, step: int, **metrics: float) -> None:
    answer = tenant.post(f"/runs/{run_id}/metrics", json={"step": step, "metrics": metrics})
    assert answer.status_code == 204, answer.text


def test_a_run_makes_its_experiment(alice: Tenant) -> None:
    run = start_run(alice, name="first", parameters={"lr": 0.1}, model_id="mdl_1")
    assert (run["status"], run["name"], run["parameters"], run["model_id"]) == (
        "running", "first", {"lr": 0.1}, "mdl_1",
    )  # fmt: skip
    assert run["source"] == {"kind": "user", "id": alice.user_id}
    second = start_run(alice)
    assert second["experiment_id"] == run["experiment_id"]
    assert second["name"] == second["id"]
    assert [item["name"] for item in alice.get("/experiments").json()["items"]] == ["digits"]


def test_a_run_shows_the_value_of_the_highest_step(alice: Tenant) -> None:
    run_id = start_run(alice)["id"]
    log(alice, run_id, 1, loss=0.9, accuracy=0.1)
    log(alice, run_id, 3, loss=0.3)
    log(alice, run_id, 2, loss=0.5, accuracy=0.8)
    log(alice, run_id, 3, loss=0.25)
    assert alice.get(f"/runs/{run_id}").json()["metrics"] == {"loss": 0.25, "accuracy": 0.8}


def test_the_history_keeps_everything_in_pages(alice: Tenant) -> None:
    run_id = start_run(alice)["id"]
    other = start_run(alice)["id"]
    for step in range(5):
        log(alice, run_id, step, loss=1.0 / (step + 1), accuracy=step / 5)
        log(alice, other, step, loss=7.0)
    seen: list[tuple[int, float]] = []
    cursor = None
    while True:
        params = {"key": "loss", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = alice.get(f"/runs/{run_id}/metrics", params=params).json()
        seen += [(point["step"], point["value"]) for point in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert len(alice.get(f"/runs/{run_id}/metrics").json()["items"]) == 10


@pytest.mark.parametrize(
    "body",
    [
        {"step": 0, "metrics": {}},
        {"step": -1, "metrics": {"a": 1}},
        {"step": 2**63, "metrics": {"a": 1}},
        {"step": 0, "metrics": {"a": "much"}},
        {"step": 0, "metrics": {"": 1}},
        {"metrics": {"a": 1}, "epoch": 1},
    ],
)
def test_bad_metrics_are_refused(alice: Tenant, resources: Resources, body: dict[str, Any]) -> None:
    run_id = start_run(alice)["id"]
    assert alice.post(f"/runs/{run_id}/metrics", json=body).status_code == 422
    with resources.session() as session:
        assert session.exec(select(RunMetric)).all() == []


def test_numbers_that_are_none_are_refused(alice: Tenant) -> None:
    run_id = start_run(alice)["id"]
    body = b'{"step": 0, "metrics": {"loss": NaN}}'
    answer = alice.post(f"/runs/{run_id}/metrics", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}


def test_a_run_ends_once(alice: Tenant) -> None:
    run_id = start_run(alice)["id"]
    artifacts = [{"type": "model", "path": "model.onnx"}]
    ended = alice.post(f"/runs/{run_id}/finish", json={"model_id": "mdl_1", "artifacts": artifacts}).json()
    assert (ended["status"], ended["model_id"], ended["artifacts"]) == ("completed", "mdl_1", artifacts)
    assert ended["completed_at"] >= ended["started_at"]
    again = alice.post(f"/runs/{run_id}/finish", json={"status": "failed"}).json()
    assert (again["status"], again["completed_at"]) == ("completed", ended["completed_at"])
    assert alice.post(f"/runs/{run_id}/finish", json={"status": "running"}).status_code == 422


def test_an_experiment_shows_its_newest_run(alice: Tenant) -> None:
    body = {"project_id": alice.project_id, "name": "digits", "description": "d"}
    experiment = alice.post("/experiments", json=body).json()
    assert (experiment["run_id"], experiment["status"], experiment["metrics"]) == (None, None, {})
    start_run(alice)
    run = start_run(alice, parameters={"lr": 1})
    log(alice, run["id"], 0, loss=0.5)
    run = alice.post(f"/runs/{run['id']}/finish", json={"status": "failed"}).json()
    shown = alice.get(f"/experiments/{experiment['id']}").json()
    assert shown["run_id"] == run["id"]
    for field in (
        "project_id",
        "model_id",
        "parameters",
        "metrics",
        "artifacts",
        "status",
        "started_at",
        "completed_at",
    ):
        assert shown[field] == run[field]
    assert alice.get("/experiments").json()["items"] == [shown]


def test_names_of_experiments_are_unique_in_a_project(alice: Tenant, bob: Tenant) -> None:
    for tenant, status in ((alice, 201), (alice, 409), (bob, 201)):
        body = {"project_id": tenant.project_id, "name": "digits"}
        assert tenant.post("/experiments", json=body).status_code == status


def test_runs_are_listed_by_project_and_experiment(alice: Tenant) -> None:
    first, second = start_run(alice), start_run(alice, experiment="other")
    listed = alice.get("/runs").json()["items"]
    assert [run["id"] for run in listed] == [second["id"], first["id"]]
    only = alice.get("/runs", params={"experiment_id": first["experiment_id"]}).json()["items"]
    assert [run["id"] for run in only] == [first["id"]]
    assert alice.get("/runs", params={"project_id": "prj_none"}).json()["items"] == []


def test_deleting_an_experiment_takes_its_runs(alice: Tenant, resources: Resources) -> None:
    run = start_run(alice)
    log(alice, run["id"], 0, loss=1.0)
    other = start_run(alice, experiment="other")
    assert alice.delete(f"/runs/{other['id']}").status_code == 204
    assert alice.get(f"/runs/{other['id']}").status_code == 404
    assert alice.delete(f"/experiments/{run['experiment_id']}").status_code == 204
    assert alice.get(f"/runs/{run['id']}").status_code == 404
    with resources.session() as session:
        assert session.exec(select(RunMetric)).all() == []


def test_parallel_runs_share_one_new_experiment(alice: Tenant, resources: Resources) -> None:
    gate = threading.Barrier(8)

    def start(_: int) -> None:
        with resources.session() as session:
            gate.wait(10)
            service.start_run(session, project_id=alice.project_id, experiment="digits")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(8)))
    with resources.session() as session:
        assert len(session.exec(select(Experiment)).all()) == 1


def test_one_key_starts_one_run(alice: Tenant) -> None:
    body = {"project_id": alice.project_id, "experiment": "digits"}
    answers = [alice.post("/runs", json=body, headers={"Idempotency-Key": "k"}).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(alice.get("/runs").json()["items"]) == 1


def test_strangers_and_the_nameless_are_kept_out(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    run = start_run(alice)
    experiment, one = f"/experiments/{run['experiment_id']}", f"/runs/{run['id']}"
    metrics = {"json": {"metrics": {"a": 1}}}
    routes: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", experiment, {}), ("DELETE", experiment, {}), ("GET", one, {}), ("DELETE", one, {}),
        ("POST", f"{one}/metrics", metrics), ("GET", f"{one}/metrics", {}), ("POST", f"{one}/finish", {"json": {}}),
    ]  # fmt: skip
    for method, path, body in routes:
        assert client.request(method, f"/api/v1{path}", **body).status_code == 401, (method, path)
        refused = bob.request(method, path, **body)
        assert refused.status_code == 404, (method, path)
        assert alice.project_id not in refused.text
    assert bob.get("/runs").json()["items"] == bob.get("/experiments").json()["items"] == []
    for path, fields in (("/runs", {"experiment": "e"}), ("/experiments", {"name": "e"})):
        assert bob.post(path, json={"project_id": alice.project_id} | fields).status_code == 404


def test_a_viewer_reads_and_does_not_write(alice: Tenant, bob: Tenant) -> None:
    run = start_run(alice)
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "viewer"})
    assert bob.get(f"/runs/{run['id']}").status_code == 200
    refused = bob.post(f"/runs/{run['id']}/metrics", json={"metrics": {"a": 1}})
    assert refused.json()["details"] == {"permission": "run:write"}
