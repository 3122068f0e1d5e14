"""Routes about the caller: the account with its teams, and what the credential may do in which project."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import Session

from ..auth import service as accounts
from ..auth.deps import CurrentAccount, CurrentPrincipal
from ..auth.needs import Caller, open_to
from ..auth.permissions import GlobalRole, Permission
from ..auth.schemas import ProfileUpdate, UserRead
from ..kernel.deps import DbSession
from ..kernel.pagination import PageQuery
from ..projects import service as projects
from ..projects import teams

router = APIRouter(prefix="/auth", tags=["auth"])


class RightsRead(BaseModel):
    """What the caller may do in one project."""

    project_id: str
    project_name: str
    permissions: list[Permission]


class WhoamiRead(BaseModel):
    """Who the caller is, by which credential, and with which effective rights; the newest 200 projects."""

    id: str
    kind: Literal["user", "key", "job"]
    user_id: str
    role: GlobalRole
    permissions: list[Permission]
    project_id: str | None
    endpoint: str | None
    projects: list[RightsRead]


@router.get("/me")
def get_me(account: CurrentAccount, session: DbSession) -> UserRead:
    """Return the account of the caller."""
    return _with_teams(session, UserRead.model_validate(account))


@router.patch("/me")
def update_me(data: ProfileUpdate, account: CurrentAccount, session: DbSession) -> UserRead:
    """Change the caller's name or preferences."""
    return _with_teams(session, UserRead.model_validate(accounts.update_profile(session, account, data)))


@router.get("/whoami")
@open_to(Caller.ACCOUNT)
def whoami(principal: CurrentPrincipal, session: DbSession) -> WhoamiRead:
    """Say who the credential stands for and what it may do where."""
    own = projects.find_project(session, principal.project_id) if principal.project_id else None
    found = [own] if own else projects.list_projects(session, principal=principal, query=PageQuery(limit=200)).items
    held = projects.permissions_by_project(session, principal, [project.id for project in found])
    return WhoamiRead(
        id=principal.id,
        kind=principal.kind,
        user_id=principal.user_id,
        role=principal.global_role,
        permissions=sorted(principal.platform_permissions),
        project_id=principal.project_id,
        endpoint=principal.endpoint,
        projects=[
            RightsRead(project_id=project.id, project_name=project.name, permissions=sorted(held[project.id]))
            for project in found
        ],
    )


def _with_teams(session: Session, account: UserRead) -> UserRead:
    return account.model_copy(update={"teams": [team.id for team in teams.teams_of(session, account.id)]})
