"""Where training jobs run: a Protocol, and Ray jobs as its implementation."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from ..compute.cluster import Cluster
from ..compute.door import job_api_url
from ..compute.isolation import blanked_environment
from ..compute.jobs import JobState, JobSubmission, RayJobs
from ..kernel.settings import Settings
from ..kernel.storage import ObjectStore
from .pace import LogPace
from .programs import JobProgram

__all__ = ["JobRuntime", "JobState", "RayJobRuntime"]


class JobRuntime(Protocol):
    """What the reconcile loop needs of the place where jobs run; a job is named by the id of its present attempt."""

    def cluster_id(self) -> str:
        """Return an id that another or a new cluster does not share."""

    def states(self) -> Mapping[str, JobState]:
        """Map the ids of all jobs that the place remembers to their states."""

    def submit(self, ray_id: str, program: JobProgram, *, api_key: str, request_id: str) -> None:
        """Start a job; one that was started before stays as it is."""

    def stop(self, ray_id: str) -> None:
        """Ask a job to end."""

    def logs(self, ray_id: str) -> str:
        """Return all that a job has written."""

    def glance(self, ray_id: str) -> str | None:
        """Return all that a job has written, or None while another look is not worth its price."""


class RayJobRuntime:
    """Runs each job as a Ray job."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster = Cluster.connect(settings)
        self._jobs = RayJobs(self._cluster)
        self._pace = LogPace()

    def cluster_id(self) -> str:
        """Return the Ray cluster's id."""
        return self._cluster.cluster_id()

    def states(self) -> Mapping[str, JobState]:
        """Map the ids of all Ray jobs to what Ray says of them."""
        return self._jobs.states()

    def submit(self, ray_id: str, program: JobProgram, *, api_key: str, request_id: str) -> None:
        """Start the program; it holds the API key and none of the platform's secrets."""
        own = {
            "RAYMILL_API_URL": job_api_url(self._settings, self._cluster),
            "RAYMILL_API_KEY": api_key,
            "RAYMILL_REQUEST_ID": request_id,
            # Lines of workers reach the log without colour codes.
            "RAY_COLOR_PREFIX": "0",
        }
        self._provide(program.packages)
        self._jobs.submit(
            JobSubmission(
                id=ray_id,
                entrypoint=program.entrypoint,
                # What the user gave replaces what would be inherited, so it reveals nothing.
                env_vars=blanked_environment() | program.env_vars | own,
                runtime_env=program.runtime_env,
                num_cpus=program.num_cpus,
                num_gpus=program.num_gpus,
                memory=program.memory,
                resources=program.resources,
                metadata=program.metadata | {"request_id": request_id},
            )
        )

    def stop(self, ray_id: str) -> None:
        """Ask Ray to end a job."""
        self._jobs.stop(ray_id)

    def logs(self, ray_id: str) -> str:
        """Return all that a job has written."""
        self._pace.forget(ray_id)
        return self._jobs.logs(ray_id)

    def glance(self, ray_id: str) -> str | None:
        """Return all that a job has written; less often for a quiet job and for a long log."""
        if not self._pace.is_due(ray_id):
            return None
        output = self._jobs.logs(ray_id)
        self._pace.looked(ray_id, len(output))
        return output

    def _provide(self, packages: Mapping[str, str]) -> None:
        """Put the packages that a runtime environment names into Ray's store; it forgets unused ones."""
        missing = {uri: blob for uri, blob in packages.items() if not self._jobs.has_package(uri)}
        if not missing:
            return
        store = ObjectStore(self._settings)
        with TemporaryDirectory(prefix="raymill-packages-") as folder:
            for uri, blob in missing.items():
                path = Path(folder) / "package.zip"
                store.fetch(blob, path)
                self._jobs.put_package(uri, path)
