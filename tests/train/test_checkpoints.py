"""Checkpoints by the API: only the running job writes them, the newest stays, and none outlives its job."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from training import SteeredRuntime, start_job

from factories import Tenant
from raymill.kernel.resources import Resources
from raymill.train.reconcile import recover, step

pytestmark = pytest.mark.integration


@pytest.fixture
def job(resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str) -> dict[str, Any]:
    """Return a running job that resumes when its cluster is lost."""
    job = start_job(alice, dataset_id, restart={"on_loss": "resume"})
    step(resources, runtime)
    runtime.put(job["id"], "RUNNING")
    step(resources, runtime)
    return job


def put(client: TestClient, runtime: SteeredRuntime, ray_id: str, epoch: int, content: bytes) -> int:
    path = f"/api/v1/training-jobs/{ray_id.partition('-')[0]}/checkpoint?epoch={epoch}"
    return client.put(path, content=content, headers={"X-API-Key": runtime.keys[ray_id][-1]}).status_code


def stored(resources: Resources, job: dict[str, Any]) -> list[str]:
    """Return what the object store holds for the job."""
    return resources.store.list_documents(f"{job['project_id']}/jobs")


def test_the_newest_checkpoint_replaces_the_former_one(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    path = f"/training-jobs/{job['id']}/checkpoint"
    assert alice.get(path).status_code == 404
    for epoch, content in ((1, b"one"), (2, b"two"), (2, b"two")):
        assert put(client, runtime, job["id"], epoch, content) == 200
    assert alice.get(path).content == b"two"
    assert len(stored(resources, job)) == 1


def test_only_the_running_job_writes_its_checkpoint(
    client: TestClient, alice: Tenant, bob: Tenant, job: dict[str, Any]
) -> None:
    path = f"/training-jobs/{job['id']}/checkpoint"
    assert alice.put(f"{path}?epoch=1", content=b"forged").status_code == 403
    assert bob.put(f"{path}?epoch=1", content=b"forged").status_code == 404
    assert bob.get(path).status_code == 404


def test_the_next_attempt_finds_the_checkpoint_and_the_former_one_writes_no_more(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, job: dict[str, Any]
) -> None:
    assert put(client, runtime, job["id"], 3, b"three") == 200
    recover(resources, lambda _: [])
    assert put(client, runtime, job["id"], 4, b"zombie") == 401
    second = SteeredRuntime("cluster-2")
    step(resources, second)
    again = f"{job['id']}-1"
    headers = {"X-API-Key": second.keys[again][-1]}
    assert client.get(f"/api/v1/training-jobs/{job['id']}/checkpoint", headers=headers).content == b"three"
    assert put(client, second, again, 5, b"five") == 200


@pytest.mark.parametrize(("state", "kept"), [("STOPPED", 0), ("FAILED", 1)])
def test_a_checkpoint_goes_with_its_job_and_a_failed_one_keeps_it_until_it_is_deleted(
    client: TestClient,
    resources: Resources,
    runtime: SteeredRuntime,
    alice: Tenant,
    job: dict[str, Any],
    state: str,
    kept: int,
) -> None:
    put(client, runtime, job["id"], 1, b"one")
    if state == "STOPPED":
        alice.post(f"/training-jobs/{job['id']}/cancel")
    runtime.put(job["id"], state, exit_code=1)
    step(resources, runtime)
    # What ends in this process is delivered here; another process would leave it to the sweep.
    resources.redeliver()
    assert len(stored(resources, job)) == kept
    assert alice.delete(f"/training-jobs/{job['id']}").status_code == 204
    assert stored(resources, job) == []
