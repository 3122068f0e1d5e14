"""The audit log over HTTP: all of it for administrators, of their projects for owners."""

from typing import Annotated

from fastapi import APIRouter, Query

from ..auth import audit
from ..auth.audit import AuditQuery
from ..auth.deps import CurrentPrincipal
from ..auth.needs import shows
from ..auth.permissions import Permission
from ..auth.schemas import AuditRead
from ..kernel.deps import DbSession
from ..kernel.pagination import Page
from ..projects.service import visible

router = APIRouter(prefix="/audit", tags=["audit"])


@router.get("")
@shows(Permission.PROJECT_ADMIN)
def list_audit(
    session: DbSession, principal: CurrentPrincipal, query: Annotated[AuditQuery, Query()]
) -> Page[AuditRead]:
    """List what was done and what was refused, newest first, in the projects that the caller owns."""
    allowed = visible(principal, audit.PROJECT, Permission.PROJECT_ADMIN)
    return audit.list_entries(session, allowed=allowed, query=query).map(AuditRead.model_validate)
