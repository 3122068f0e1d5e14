"""Which project a caller of the jobs door means."""

from typing import Annotated

from fastapi import Depends, Header
from sqlmodel import Session
from starlette.datastructures import Headers

from ..auth.deps import CurrentPrincipal, authenticate, credential_of
from ..auth.needs import needs
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.deps import DbSession
from ..kernel.resources import Resources
from ..projects.service import choose_project

HEADER = "X-Raymill-Project"

ProjectHeader = Annotated[
    str | None, Header(alias=HEADER, description="Id or name of the project; an API key needs none")
]


def project_id(session: Session, principal: Principal, named: str | None, permission: Permission) -> str:
    """Return the project of the header, else the key's, else the only one of the account."""
    return choose_project(session, principal, named, permission, by=f"the header {HEADER}").id


def project_of_headers(session: Session, resources: Resources, headers: Headers, permission: Permission) -> str:
    """Return the project that the headers of a websocket mean, after the same checks as of a request."""
    principal = authenticate(session, resources, credential_of(headers))
    return project_id(session, principal, headers.get(HEADER), permission)


@needs(Permission.JOB_READ)
def _reader(session: DbSession, principal: CurrentPrincipal, named: ProjectHeader = None) -> str:
    return project_id(session, principal, named, Permission.JOB_READ)


@needs(Permission.JOB_WRITE)
def _writer(session: DbSession, principal: CurrentPrincipal, named: ProjectHeader = None) -> str:
    return project_id(session, principal, named, Permission.JOB_WRITE)


JobsReader = Annotated[str, Depends(_reader)]
JobsWriter = Annotated[str, Depends(_writer)]
