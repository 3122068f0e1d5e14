"""Quotas: what a project may take at once, claimed by an owner (a job, a deployment, a blob) and given back with it.

What is used is the sum of the claims, added up while the project's row is locked, so parallel requests never exceed a
limit, a claim made twice counts once, and nothing drifts.
"""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import delete, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from ..kernel.clock import utc_now
from ..kernel.settings import QuotaSettings
from .errors import ProjectNotFound, QuotaExceeded
from .models import Project, QuotaClaim
from .schemas import QuotaLimits, QuotaUse, UsageRead

# Shares of a CPU are fractions that binary numbers only come near to.
_ROUNDING = 1e-6


class Quota(StrEnum):
    """What is limited; the names are those of the settings."""

    CONCURRENT_JOBS = "concurrent_jobs"
    CPUS = "cpus"
    GPUS = "gpus"
    STORED_BYTES = "stored_bytes"
    DEPLOYMENTS = "deployments"


def reserve(
    session: Session, *, defaults: QuotaSettings, project_id: str, owner: str, amounts: Mapping[Quota, float]
) -> None:
    """Claim amounts for an owner, in place of what it claimed before; parallel callers wait for each other.

    Who claims no more than before is never refused, also above a limit that was lowered.

    Raises:
        ProjectNotFound: If the project was deleted meanwhile.
        QuotaExceeded: If one of them is more than is left; nothing is claimed then.
    """
    limits = limits_of(_lock(session, project_id), defaults)
    used, held = _used(session, project_id, without=owner), _held(session, project_id, owner)
    for quota, amount in amounts.items():
        if amount > held.get(quota, 0.0) and used[quota] + amount > limits[quota] + _ROUNDING:
            raise QuotaExceeded(quota, used=used[quota], asked=amount, limit=limits[quota])
    for quota, amount in amounts.items():
        _claim(session, project_id, quota, owner, amount)


def lower(session: Session, *, owner: str, amounts: Mapping[Quota, float]) -> None:
    """Give back what an owner claimed beyond these amounts."""
    for quota, amount in amounts.items():
        beyond = (col(QuotaClaim.owner) == owner, col(QuotaClaim.quota) == quota, col(QuotaClaim.amount) > amount)
        session.execute(update(QuotaClaim).where(*beyond).values(amount=amount))


def release(session: Session, owner: str) -> None:
    """Give back all that an owner claimed."""
    session.execute(delete(QuotaClaim).where(col(QuotaClaim.owner) == owner))


def set_limits(session: Session, *, project: Project, data: QuotaLimits) -> None:
    """Replace what the project may take where that differs from the platform's defaults; what is used stays."""
    project.quotas = data.model_dump(exclude_none=True)
    project.updated_at = utc_now()
    session.add(project)


def read_usage(session: Session, *, project: Project, defaults: QuotaSettings) -> UsageRead:
    """Return what a project uses of each quota."""
    used, limits = _used(session, project.id), limits_of(project, defaults)
    shown = {quota.value: QuotaUse(used=round(used[quota], 6), limit=limits[quota]) for quota in Quota}
    return UsageRead(project_id=project.id, quotas=shown)


def limits_of(project: Project, defaults: QuotaSettings) -> dict[Quota, float]:
    """Return a project's limits: its own, and for the rest the platform's defaults."""
    return {quota: float(project.quotas.get(quota, getattr(defaults, quota))) for quota in Quota}


def _lock(session: Session, project_id: str) -> Project:
    locked = select(Project).where(Project.id == project_id).with_for_update(key_share=True)
    project = session.exec(locked.execution_options(populate_existing=True)).one_or_none()
    if project is None:
        raise ProjectNotFound(project_id)
    return project


def _used(session: Session, project_id: str, *, without: str = "") -> dict[Quota, float]:
    sums = select(QuotaClaim.quota, func.sum(QuotaClaim.amount)).where(
        QuotaClaim.project_id == project_id, QuotaClaim.owner != without
    )
    found = dict(session.exec(sums.group_by(QuotaClaim.quota)).all())
    return {quota: float(found.get(quota, 0.0)) for quota in Quota}


def _held(session: Session, project_id: str, owner: str) -> dict[str, float]:
    theirs = select(QuotaClaim.quota, QuotaClaim.amount).where(
        QuotaClaim.project_id == project_id, QuotaClaim.owner == owner
    )
    return dict(session.exec(theirs).all())


def _claim(session: Session, project_id: str, quota: Quota, owner: str, amount: float) -> None:
    row = QuotaClaim(project_id=project_id, quota=quota, owner=owner, amount=amount)
    again = {"amount": amount, "unused_since": None}
    session.execute(
        insert(QuotaClaim)
        .values(**row.model_dump())
        .on_conflict_do_update(index_elements=["project_id", "quota", "owner"], set_=again)
    )
