"""Makers of training jobs, and a place where they run that tests can steer."""

from collections.abc import Mapping
from typing import Any

from data_makers import make_dataset, uploaded
from factories import Tenant
from raymill.compute.cluster import ClusterUnreachable
from raymill.train.schemas import ResourceRequirements

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
    """A cluster whose jobs do what the test says."""

    def __init__(self, cluster: str = "cluster-1") -> None:
        self.cluster = cluster
        self.states: dict[str, str] = {}
        self.output: dict[str, str] = {}
        self.keys: dict[str, list[str]] = {}
        self.requests: dict[str, str] = {}
        self.stopped: list[str] = []
        self.is_reachable = True
        self.loses_answers = False

    def cluster_id(self) -> str:
        self._reach()
        return self.cluster

    def statuses(self) -> Mapping[str, str]:
        self._reach()
        return dict(self.states)

    def submit(self, job_id: str, *, api_key: str, resources: ResourceRequirements, request_id: str) -> None:
        self._reach()
        assert job_id not in self.states, "a job was submitted twice"
        self.states[job_id] = "PENDING"
        self.keys.setdefault(job_id, []).append(api_key)
        self.requests[job_id] = request_id
        if self.loses_answers:
            raise ClusterUnreachable("the answer was lost")

    def stop(self, job_id: str) -> None:
        self._reach()
        self.stopped.append(job_id)

    def logs(self, job_id: str) -> str:
        self._reach()
        return self.output.get(job_id, "")

    def _reach(self) -> None:
        if not self.is_reachable:
            raise ClusterUnreachable("the cluster is away")
