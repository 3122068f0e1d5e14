"""Ray jobs through the dashboard's REST interface; Ray itself is not imported."""

from dataclasses import dataclass, field
from typing import Any

from .cluster import Cluster, ClusterUnreachable


@dataclass(frozen=True)
class JobSubmission:
    """A command to run as a Ray job; the submission id is ours."""

    id: str
    entrypoint: str
    env_vars: dict[str, str] = field(repr=False)
    num_cpus: float
    num_gpus: float
    metadata: dict[str, str]


class RayJobs:
    """The jobs of one Ray cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def submit(self, job: JobSubmission) -> None:
        """Start a job; one whose submission id the cluster knows already stays as it is.

        Raises:
            ClusterUnreachable: If the cluster does not answer or refuses.
        """
        body: dict[str, Any] = {
            "submission_id": job.id,
            "entrypoint": job.entrypoint,
            "runtime_env": {"env_vars": job.env_vars},
            "entrypoint_num_cpus": job.num_cpus,
            "entrypoint_num_gpus": job.num_gpus,
            "metadata": job.metadata,
        }
        try:
            self._cluster.call("POST", "/api/jobs/", json=body)
        except ClusterUnreachable:
            # The answer of an earlier submission may have been lost on its way.
            if job.id not in self.statuses():
                raise

    def statuses(self) -> dict[str, str]:
        """Map every submitted job that the cluster remembers to Ray's word for its state."""
        return {job.submission_id: job.status for job in self._cluster.jobs() if job.submission_id}

    def logs(self, job_id: str) -> str:
        """Return all that the job has written so far; empty before it starts."""
        logs: str = self._cluster.call("GET", f"/api/jobs/{job_id}/logs")["logs"]
        return logs or ""

    def stop(self, job_id: str) -> None:
        """Ask Ray to end a job."""
        self._cluster.stop_job(job_id)
