"""Routes of accounts that reach into projects: service accounts, and the end of any account."""

from fastapi import APIRouter

from ..auth.deps import UserAdmin
from ..kernel.deps import DbSession, Paging
from ..kernel.pagination import Page
from . import service_accounts
from .deps import ProjectAdmin, ProjectReader
from .schemas import ServiceAccountCreate, ServiceAccountRead

router = APIRouter(tags=["users"])


@router.delete("/users/{user_id}", status_code=204)
def delete_user(user_id: str, admin: UserAdmin, session: DbSession) -> None:
    """Lock an account out for good, take it out of its projects, and forget who it was."""
    service_accounts.delete_account(session, user_id)


@router.post("/projects/{project_id}/service-accounts", status_code=201)
def create_service_account(data: ServiceAccountCreate, project: ProjectAdmin, session: DbSession) -> ServiceAccountRead:
    """Make a principal of the project that is no person."""
    return service_accounts.create_service_account(session, project=project, data=data)


@router.get("/projects/{project_id}/service-accounts")
def list_service_accounts(project: ProjectReader, session: DbSession, query: Paging) -> Page[ServiceAccountRead]:
    """List the service accounts of a project."""
    return service_accounts.list_service_accounts(session, project_id=project.id, query=query)


@router.delete("/projects/{project_id}/service-accounts/{account_id}", status_code=204)
def delete_service_account(account_id: str, project: ProjectAdmin, session: DbSession) -> None:
    """End a service account and its keys."""
    service_accounts.delete_service_account(session, project_id=project.id, account_id=account_id)
