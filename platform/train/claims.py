"""What a job takes of its project's quotas, from its start until it has ended, however it ends."""

from sqlmodel import Session

from ..kernel.settings import QuotaSettings
from ..projects import quotas
from ..projects.quotas import Quota


def claim(session: Session, *, defaults: QuotaSettings, project_id: str, job_id: str, cpus: float, gpus: float) -> None:
    """Claim a place for a job.

    Raises:
        QuotaExceeded: If the project may not run that much more at once.
    """
    amounts = {Quota.CONCURRENT_JOBS: 1, Quota.CPUS: cpus, Quota.GPUS: gpus}
    quotas.reserve(session, defaults=defaults, project_id=project_id, owner=job_id, amounts=amounts)


def give_back(session: Session, job_id: str) -> None:
    """Give back what a job took."""
    quotas.release(session, job_id)
