"""The audit log over HTTP: all of it for administrators, of their projects for owners."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlmodel import Session

from ..auth import audit
from ..auth.audit import AuditQuery
from ..auth.deps import CurrentPrincipal
from ..auth.needs import shows
from ..auth.permissions import Permission
from ..auth.schemas import AuditOutcome, AuditRead
from ..kernel.deps import DbSession
from ..kernel.pagination import Page
from ..projects.service import members_among, visible

router = APIRouter(prefix="/audit", tags=["audit"])


@router.get("")
@shows(Permission.PROJECT_ADMIN)
def list_audit(
    session: DbSession, principal: CurrentPrincipal, query: Annotated[AuditQuery, Query()]
) -> Page[AuditRead]:
    """List what was done and what was refused, newest first, in the projects that the caller owns.

    Of strangers who were refused there it shows ids alone; their names are for administrators.
    """
    allowed = visible(principal, audit.PROJECT, Permission.PROJECT_ADMIN)
    page = audit.list_entries(session, allowed=allowed, query=query).map(AuditRead.model_validate)
    return page if principal.is_admin else _without_strangers(session, page)


def _without_strangers(session: Session, page: Page[AuditRead]) -> Page[AuditRead]:
    refused = [row for row in page.items if row.outcome == AuditOutcome.REFUSED]
    known = members_among(session, {row.project_id or "" for row in refused}, {row.actor_id for row in refused})
    strangers = {row.id for row in refused if (row.project_id, row.actor_id) not in known}
    return page.map(lambda row: row.model_copy(update={"actor_name": None}) if row.id in strangers else row)
