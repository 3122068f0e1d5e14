"""Parts die under light load; each test says how fast the platform was whole again.

What must cost no prediction at all dies in test_static_stability.py, under ten times the load.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from patient import Patient, send
from raymill.kernel.security import hash_secret
from raymill.sdk import Client
from small_disk import fill
from timing import seconds_until, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def test_flushall_loses_nothing(patient: Patient, tell: Callable[[str], None]) -> None:
    """Predictions go on, no dead session revives, table and grants are back."""
    with Client(patient.platform.url) as anonymous:
        login = anonymous.auth.register(
            email=f"x-{secrets.token_hex(4)}@example.com", name="X", password="correct horse battery"
        )
    token = {"Authorization": f"Bearer {login.access_token}"}
    dead = lambda: httpx.get(f"{patient.platform.url}/v2/models/a.b", headers=token).status_code  # noqa: E731
    assert dead() == 404
    assert httpx.post(f"{patient.platform.url}/api/v1/auth/logout", headers=token).status_code < 300
    until(lambda: dead() == 401, within_s=2, what="the session is dead")
    names = {b"endpoint:main-job.digits", f"grants:{patient.tenant.project_id}".encode(), b"revocations:all"}
    with patient.cache() as cache, patient.load() as load:
        before = set(cache.hkeys("raymill:document-versions"))
        cache.flushall()
        whole = lambda: set(cache.hkeys("raymill:document-versions")) == before  # noqa: E731
        back = seconds_until(whole, within_s=5, what="all documents are back")
        statuses = {dead() for _ in range(20)}
        until(lambda: load.good_since(0) > 30, within_s=10, what="predictions")
    tell(f"FLUSHALL: {len(before)} documents back after {back:.2f} s, {len(load.failures())} failed predictions")
    assert statuses == {401}
    assert before >= names
    assert back < 2.0
    assert load.failures() == []


@pytest.mark.parametrize("part", ["postgres", "valkey"])
def test_a_database_that_hangs_for_ten_seconds(patient: Patient, tell: Callable[[str], None], part: str) -> None:
    """The control plane says 503 within 2 s and recovers by itself; predictions and jobs notice nothing."""
    server = {"postgres": patient.postgres, "valkey": patient.valkey}[part]
    needs = {"postgres": "/v1/projects", "valkey": f"/v1/deployments/{patient.tenant.deployment.id}/metrics"}[part]
    job = patient.tenant.client.training_jobs.start(
        project_id=patient.tenant.project_id,
        dataset=patient.tenant.dataset_id,
        model="survivor",
        hyperparameters={"target": "digit", "epochs": 20},
    )
    process = server.find_process()
    with patient.load() as load:
        send(process, signal.SIGSTOP)
        stopped = time.monotonic()
        refused = []
        try:
            while time.monotonic() - stopped < 10:
                refused += [patient.ask(needs), patient.ask("/readyz")]
        finally:
            send(process, signal.SIGCONT)
        back = seconds_until(lambda: patient.ask(needs)[0] == 200, within_s=10, what="the control plane answers")
        ready = seconds_until(patient.is_up, within_s=10, what="readyz")
    slowest = max(seconds for _, seconds, _ in refused)
    tell(
        f"{part} hung 10 s: {len(refused)} answers 503, the slowest after {slowest:.2f} s; back after {back:.2f} s, "
        f"ready after {back + ready:.2f} s; {len(load.predictions)} predictions, {len(load.failures())} failed"
    )
    assert {status for status, _, _ in refused} == {503}
    assert all(answer.headers["Retry-After"] and answer.json() for _, _, answer in refused)
    assert slowest < 2.0
    assert back < 3.0
    assert load.failures() == []
    ended = patient.tenant.client.training_jobs.wait(job.id, timeout_s=120)
    assert ended.status == "completed", json.dumps(ended.error)


@pytest.mark.parametrize("part", ["postgres", "valkey"])
def test_a_database_that_is_stopped_and_started(patient: Patient, tell: Callable[[str], None], part: str) -> None:
    server = {"postgres": patient.postgres, "valkey": patient.valkey}[part]
    with patient.load() as load:
        server.stop()
        try:
            status, seconds, answer = patient.ask("/readyz")
            until(lambda: load.good_since(0) > 20, within_s=10, what="predictions without it")
        finally:
            server.start()
        back = seconds_until(patient.is_up, within_s=10, what="readyz")
    tell(f"{part} stopped: 503 after {seconds:.2f} s, ready {back:.2f} s after its start")
    assert (status, answer.headers["Retry-After"], load.failures()) == (503, "2", [])
    assert seconds < 2.0
    assert back < 3.0


def test_the_last_decisions_stand_without_both_databases(patient: Patient, tell: Callable[[str], None]) -> None:
    """Who was let in stays in, who was refused stays out, and an access token needs neither."""
    client, project = patient.tenant.client, patient.tenant.project_id
    kept, lost = (client.api_keys.create(name=name, project_id=project) for name in ("kept", "lost"))
    with Client(patient.platform.url) as anonymous:
        email = f"v-{secrets.token_hex(4)}@example.com"
        login = anonymous.auth.register(email=email, name="V", password="correct horse battery")
    client.projects.set_member(project, login.user.id, role="viewer")
    headers = [{"X-API-Key": kept.key}, {"X-API-Key": lost.key}, {"Authorization": f"Bearer {login.access_token}"}]
    url = f"{patient.tenant.deployment.endpoint}/predict"

    def decisions() -> set[tuple[int, ...]]:
        asked = [[httpx.post(url, json=patient.body, headers=who).status_code for who in headers] for _ in range(6)]
        return {tuple(statuses) for statuses in asked}

    until(lambda: decisions() == {(200, 200, 200)}, within_s=5, what="all three may")
    client.api_keys.revoke(lost.id)
    until(lambda: decisions() == {(200, 401, 200)}, within_s=2, what="one of them may no more")
    patient.postgres.stop()
    patient.valkey.stop()
    try:
        away = {answer for _ in range(3) for answer in decisions()}
    finally:
        patient.valkey.start()
        patient.postgres.start()
    back = seconds_until(patient.is_up, within_s=10, what="readyz")
    tell(f"both databases stopped: {away} for a key, a revoked key and a login; ready {back:.2f} s after their start")
    assert away == {(200, 401, 200)}


def test_api_killed_between_commit_and_publish(patient: Patient, tell: Callable[[str], None]) -> None:
    """Valkey hangs, so that the api has committed and cannot publish; then it dies."""
    client, name = patient.tenant.client, f"late-{secrets.token_hex(3)}"
    url = f"{patient.platform.url}/v2/models/main-job.{name}/predict"
    valkey = patient.valkey.find_process()
    [api] = patient.replicas("api")
    body = {"project_id": patient.tenant.project_id, "name": name, "model": "digits"}
    request = threading.Thread(
        target=lambda: _swallow(lambda: patient.ask("/v1/deployments", method="POST", json=body))
    )
    with psycopg.connect(patient.postgres.url, autocommit=True) as database, patient.load() as load:

        def committed() -> bool:
            found = database.execute("SELECT 1 FROM deployment WHERE name = %s", [name])
            return found.fetchone() is not None

        send(valkey, signal.SIGSTOP)
        try:
            request.start()
            until(committed, within_s=10, what="the deployment is committed")
            os.kill(api.pid or 0, signal.SIGKILL)
        finally:
            send(valkey, signal.SIGCONT)
        predict = lambda: httpx.post(url, json=patient.body, headers=patient.headers).status_code == 200  # noqa: E731
        live = seconds_until(lambda: all(predict() for _ in range(8)), within_s=10, what="the endpoint answers")
        back = live + seconds_until(patient.is_up, within_s=60, what="the api is back")
        request.join(60)
    tell(f"api killed between commit and publish: live everywhere after {live:.2f} s, api back after {back:.1f} s")
    assert live < 2.0
    assert load.failures() == []
    for deployment in client.deployments.list(project_id=patient.tenant.project_id):
        if deployment.name == name:
            client.deployments.delete(deployment.id)


def _swallow(call: Callable[[], Any]) -> None:
    try:
        call()
    except httpx.HTTPError as error:
        sys.stderr.write(f"{error!r}\n")


def test_inference_is_deleted_from_serve(patient: Patient, tell: Callable[[str], None]) -> None:
    code = (
        "import ray; from ray import serve; ray.init(log_to_driver=False); serve.delete('inference', _blocking=False)"
    )
    exports = patient.platform.command("env").stdout
    script = f'{exports}\nexec "{sys.executable}" -c "{code}"'
    before = {one.pid for one in patient.replicas("inference")}
    others = {app: [one.pid for one in patient.replicas(app)] for app in ("api", "controller", "console")}
    with patient.load() as load:
        subprocess.run(["bash", "-c", script], env=patient.platform.environment, check=True, timeout=60)

        def replaced() -> bool:
            pids = {one.pid for one in patient.replicas("inference")}
            return len(pids) == 2 and not pids & before

        until(replaced, within_s=90, what="two new replicas")
        until(lambda: load.good_since(time.monotonic() - 1) > 10, within_s=30, what="predictions again")
    tell(f"inference deleted: {len(load.failures())} predictions failed, within {load.outage_s():.1f} s")
    assert load.outage_s() < 30
    assert {app: [one.pid for one in patient.replicas(app)] for app in others} == others


def test_the_disk_is_full(patient: Patient, tell: Callable[[str], None], digits: Any) -> None:
    home = patient.platform.home
    if not os.path.ismount(home):
        pytest.skip("the platform's home is no small disk: this account may not mount one")
    project, client = patient.tenant.project_id, patient.tenant.client
    dataset = client.datasets.create(project_id=project, name=f"big-{secrets.token_hex(3)}")
    job = {
        "project_id": project,
        "framework": "pytorch",
        "trainer": "tabular-classifier",
        "dataset": {"id": patient.tenant.dataset_id},
        "model": {"name": "full"},
        "hyperparameters": {"target": "digit", "epochs": 1},
    }

    def upload() -> httpx.Response:
        path = f"/v1/datasets/{dataset.id}/versions"
        return patient.ask(path, method="POST", content=digits.csv(), params={"filename": "digits.csv"})[2]

    lost = client.api_keys.create(name="lost", project_id=project)
    copy, digest = home / "serving" / "grants" / f"{project}.json", hash_secret(lost.key or "")
    until(lambda: digest in copy.read_text(), what="a copy of the grants")
    with patient.load() as load:
        before = _objects(home)
        filler = fill(home)
        try:
            refused = [upload(), patient.ask("/v1/training-jobs", method="POST", json=job)[2]]
            until(lambda: load.good_since(0) > 20 * 7, within_s=30, what="predictions for longer than a log flush")
            assert _objects(home) == before
            client.api_keys.revoke(lost.id)
        finally:
            filler.unlink()
        logged = _log_files(home)
        until(lambda: digest not in copy.read_text(), what="the copy without the key that was revoked meanwhile")
        well = seconds_until(lambda: upload().status_code == 201, within_s=10, what="uploads")
        key = client.api_keys.create(name="after", project_id=project)
        ask = lambda: httpx.post(  # noqa: E731
            f"{patient.tenant.deployment.endpoint}/predict", json=patient.body, headers={"X-API-Key": key.key or ""}
        )
        until(lambda: ask().status_code == 200, within_s=5, what="a new key works")
        until(lambda: _log_files(home) > logged, within_s=15, what="the inference log is written again")
    tell(f"disk full: 503 for uploads and jobs, {len(load.failures())} failed predictions, well after {well:.2f} s")
    for answer in refused:
        assert (answer.status_code, answer.json()["type"]) == (503, "EXTERNAL_SERVICE_ERROR"), answer.text
        assert "disk is full" in answer.json()["message"]
    assert load.failures() == []


def _objects(home: Path) -> set[str]:
    """Everything in the object store and on its way there, but for the inference log."""
    found = [*(home / "objects").rglob("*"), *(home / "tmp").rglob("*")]
    return {str(path) for path in found if path.is_file() and not {"inference-log", ".probe"} & set(path.parts)}


def _log_files(home: Path) -> int:
    return sum(path.is_file() for path in (home / "objects").glob("*/inference-log/*/*.parquet"))
