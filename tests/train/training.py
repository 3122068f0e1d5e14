"""Makers of training jobs, and a place where they run that tests can steer."""

from collections.abc import Mapping
from typing import Any

from fastapi.testclient import TestClient

from data_makers import make_dataset, uploaded
from factories import Tenant
from raymill.compute.cluster import ClusterUnreachable
from raymill.compute.jobs import JobRefused, JobState
from raymill.kernel.resources import Resources
from raymill.train.programs import JobProgram
from raymill.train.reconcile import step

TABLE = b"width,height,kind\n" + b"".join(f"{n},{n * 2},{'ab'[n % 2]}\n".encode() for n in range(20))


def training_body(tenant: Tenant, dataset_id: str, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "project_id": tenant.project_id,
        "framework": "pytorch",
        "trainer": "tabular-classifier",
        "dataset": {"id": dataset_id},
        "model": {"name": "reader"},
        "hyperparameters": {"target": "kind", "epochs": 4},
        "resources": {"num_workers": 1},
    }
    return body | changes


def make_table(tenant: Tenant, content: bytes = TABLE) -> str:
    """Make a dataset with one version."""
    dataset_id = make_dataset(tenant, "table")
    uploaded(tenant, dataset_id, content)
    return dataset_id


def start_job(tenant: Tenant, dataset_id: str, **changes: Any) -> dict[str, Any]:
    """Queue a training job."""
    answer = tenant.post("/training-jobs", json=training_body(tenant, dataset_id, **changes))
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


class SteeredRuntime:
    """A cluster whose jobs do what the test says; ``keys``, ``programs`` and ``starts`` tell what it was given."""

    def __init__(self, cluster: str = "cluster-1") -> None:
        self.cluster = cluster
        self.states_by_id: dict[str, JobState] = {}
        self.output: dict[str, str] = {}
        self.keys: dict[str, list[str]] = {}
        self.programs: dict[str, JobProgram] = {}
        self.requests: dict[str, str] = {}
        self.starts: list[str] = []
        self.stopped: list[str] = []
        self.is_reachable = True
        self.loses_answers = False
        self.loses_logs = False
        self.refusal: str | None = None

    def put(self, ray_id: str, status: str, **details: Any) -> None:
        """Let the cluster say this of a job from now on."""
        self.states_by_id[ray_id] = JobState(status, **details)

    def cluster_id(self) -> str:
        self._reach()
        return self.cluster

    def states(self) -> Mapping[str, JobState]:
        self._reach()
        return dict(self.states_by_id)

    def submit(self, ray_id: str, program: JobProgram, *, api_key: str, request_id: str) -> None:
        self._reach()
        if self.refusal is not None:
            raise JobRefused(self.refusal)
        self.keys.setdefault(ray_id, []).append(api_key)
        # As Ray does: a submission id is taken once, and the second submission changes nothing.
        if ray_id not in self.states_by_id:
            self.starts.append(ray_id)
            self.put(ray_id, "PENDING", message="It waits for CPUs.")
            self.programs[ray_id] = program
            self.requests[ray_id] = request_id
        if self.loses_answers:
            raise ClusterUnreachable("the answer was lost")

    def stop(self, ray_id: str) -> None:
        self._reach()
        self.stopped.append(ray_id)

    def logs(self, ray_id: str) -> str:
        self._reach()
        if self.loses_logs:
            raise ClusterUnreachable("the node is away")
        return self.output.get(ray_id, "")

    def glance(self, ray_id: str) -> str | None:
        return self.logs(ray_id)

    def _reach(self) -> None:
        if not self.is_reachable:
            raise ClusterUnreachable("the cluster is away")


def run(resources: Resources, runtime: SteeredRuntime, job: dict[str, Any]) -> None:
    """Bring a waiting job to where it runs."""
    step(resources, runtime)
    runtime.put(job["id"], "RUNNING")
    step(resources, runtime)


def read(tenant: Tenant, job: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = tenant.get(f"/training-jobs/{job['id']}").json()
    return answer


def report(client: TestClient, runtime: SteeredRuntime, job: dict[str, Any], what: str, body: dict[str, Any]) -> int:
    headers = {"X-API-Key": runtime.keys[job["id"]][-1]}
    return client.post(f"/api/v1/training-jobs/{job['id']}/{what}", json=body, headers=headers).status_code
