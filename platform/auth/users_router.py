"""Routes of administrators: accounts, invitations and global roles."""

from typing import Literal

from fastapi import APIRouter

from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.pagination import Page
from . import invitations, users
from .deps import CurrentPerson, UserAdmin
from .permissions import GLOBAL_ROLES, ROLES
from .schemas import (
    InvitationCreate,
    InvitationCreated,
    InvitationRead,
    ManagedAccountRead,
    RoleAssignment,
    RoleRead,
)

router = APIRouter(tags=["users"])


@router.get("/roles")
def list_roles(person: CurrentPerson, scope: Literal["platform", "project"] = "platform") -> list[RoleRead]:
    """Return the roles of the platform, or those inside a project, and what each may do."""
    table = GLOBAL_ROLES if scope == "platform" else ROLES
    return [RoleRead(id=role, name=role, permissions=sorted(held)) for role, held in table.items()]


@router.post("/users/invitations", status_code=201)
def create_invitation(
    data: InvitationCreate, admin: UserAdmin, session: DbSession, resources: AppResources
) -> InvitationCreated:
    """Invite an address; the token is in this answer and nowhere else."""
    settings = resources.settings.auth
    made, token = invitations.invite(session, data=data, invited_by=admin.user_id, settings=settings)
    return InvitationCreated(**InvitationRead.model_validate(made).model_dump(), token=token)


@router.get("/users/invitations")
def list_invitations(admin: UserAdmin, session: DbSession, query: Paging) -> Page[InvitationRead]:
    """List the invitations that were not used."""
    return invitations.list_invitations(session, query).map(InvitationRead.model_validate)


@router.delete("/users/invitations/{invitation_id}", status_code=204)
def withdraw_invitation(invitation_id: str, admin: UserAdmin, session: DbSession) -> None:
    """Remove an invitation that was not used."""
    invitations.withdraw(session, invitation_id)


@router.get("/users")
def list_users(admin: UserAdmin, session: DbSession, query: Paging) -> Page[ManagedAccountRead]:
    """List the accounts of the platform."""
    return users.list_users(session, query).map(ManagedAccountRead.model_validate)


@router.get("/users/{user_id}")
def get_user(user_id: str, admin: UserAdmin, session: DbSession) -> ManagedAccountRead:
    """Return one account."""
    return ManagedAccountRead.model_validate(users.get_user(session, user_id))


@router.put("/users/{user_id}/role")
def assign_role(user_id: str, data: RoleAssignment, admin: UserAdmin, session: DbSession) -> ManagedAccountRead:
    """Give an account another global role."""
    return ManagedAccountRead.model_validate(users.assign_role(session, user_id, data.role))


@router.post("/users/{user_id}/disable")
def disable_user(user_id: str, admin: UserAdmin, session: DbSession) -> ManagedAccountRead:
    """Lock an account out; its sessions die and its keys work no more."""
    return ManagedAccountRead.model_validate(users.disable_user(session, user_id))


@router.post("/users/{user_id}/enable")
def enable_user(user_id: str, admin: UserAdmin, session: DbSession) -> ManagedAccountRead:
    """Let an account in again."""
    return ManagedAccountRead.model_validate(users.enable_user(session, user_id))
