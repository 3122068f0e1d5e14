"""Dependencies that put the caller's right into an endpoint's signature."""

from typing import Annotated

from fastapi import Depends

from ..auth.deps import CurrentPrincipal
from ..auth.permissions import Permission
from ..kernel.deps import DbSession
from .models import Project
from .service import authorize

__all__ = ["ProjectAdmin", "ProjectReader", "authorize"]


def _reader(project_id: str, principal: CurrentPrincipal, session: DbSession) -> Project:
    return authorize(session, principal, project_id, Permission.PROJECT_READ)


def _admin(project_id: str, principal: CurrentPrincipal, session: DbSession) -> Project:
    return authorize(session, principal, project_id, Permission.PROJECT_ADMIN)


ProjectReader = Annotated[Project, Depends(_reader)]
ProjectAdmin = Annotated[Project, Depends(_admin)]
