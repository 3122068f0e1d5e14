"""Where training jobs run: a Protocol, and Ray jobs as its implementation."""

import sys
from collections.abc import Mapping
from shlex import quote
from typing import Protocol

from ..compute.cluster import Cluster
from ..compute.isolation import blanked_environment
from ..compute.jobs import JobSubmission, RayJobs
from ..kernel.settings import Settings
from .schemas import ResourceRequirements


class JobRuntime(Protocol):
    """What the reconcile loop needs of the place where jobs run."""

    def cluster_id(self) -> str:
        """Return an id that another or a new cluster does not share."""

    def statuses(self) -> Mapping[str, str]:
        """Map job ids to PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""

    def submit(self, job_id: str, *, api_key: str, resources: ResourceRequirements, request_id: str) -> None:
        """Start a job; one that was started before stays as it is."""

    def stop(self, job_id: str) -> None:
        """Ask a job to end."""

    def logs(self, job_id: str) -> str:
        """Return all that a job has written."""


class RayJobRuntime:
    """Runs each training job as a Ray job whose submission id is the job's id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster = Cluster.connect(settings)
        self._jobs = RayJobs(self._cluster)

    def cluster_id(self) -> str:
        """Return the Ray cluster's id."""
        return self._cluster.cluster_id()

    def statuses(self) -> Mapping[str, str]:
        """Map job ids to Ray's word for their state."""
        return self._jobs.statuses()

    def submit(self, job_id: str, *, api_key: str, resources: ResourceRequirements, request_id: str) -> None:
        """Start the driver; it holds the API key and none of the platform's secrets."""
        own = {
            "RAYMILL_API_URL": self._settings.http.base_url,
            "RAYMILL_API_KEY": api_key,
            "RAYMILL_REQUEST_ID": request_id,
            # Lines of workers reach the log without colour codes.
            "RAY_COLOR_PREFIX": "0",
        }
        # With one worker the driver itself trains; with more, Ray places the workers and the driver only waits.
        alone = resources.num_workers == 1
        self._jobs.submit(
            JobSubmission(
                id=job_id,
                entrypoint=f"{quote(sys.executable)} -m raymill.train.driver {quote(job_id)}",
                env_vars=blanked_environment() | own,
                num_cpus=resources.cpus_per_worker if alone else 0.0,
                num_gpus=resources.gpus_per_worker if alone else 0.0,
                metadata={"request_id": request_id},
            )
        )

    def stop(self, job_id: str) -> None:
        """Ask Ray to end a job."""
        self._jobs.stop(job_id)

    def logs(self, job_id: str) -> str:
        """Return all that a job has written."""
        return self._jobs.logs(job_id)
