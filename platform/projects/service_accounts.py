"""Service accounts: members of one project without a password, for whom API keys stand."""

from sqlmodel import Session, col, delete, select

from ..auth import service as accounts
from ..auth import users
from ..auth.errors import EmailTaken
from ..auth.permissions import GlobalRole, ProjectRole
from ..auth.users import User
from ..kernel.events import record
from ..kernel.ids import check_name
from ..kernel.pagination import Page, PageQuery, paginate
from .errors import ServiceAccountNameTaken, ServiceAccountNotFound
from .events import MembershipChanged
from .models import Project, ProjectMember, TeamMember
from .schemas import ServiceAccountCreate, ServiceAccountRead
from .service import project_ids_of, set_member


def create_service_account(session: Session, *, project: Project, data: ServiceAccountCreate) -> ServiceAccountRead:
    """Make a service account and give it its role.

    Raises:
        ValidationFailed: If the name breaks the rule.
        ServiceAccountNameTaken: If the project has one of this name.
    """
    name = check_name(data.name)
    # RFC 2606 keeps the domain from being anybody's, so no person can prove to own the address.
    email = f"{name}@{project.name}.service.invalid"
    try:
        made = accounts.make_account(session, email=email, name=name, role=GlobalRole.VIEWER, project_id=project.id)
    except EmailTaken as error:
        raise ServiceAccountNameTaken(f"The project has a service account {name!r}; choose another name.") from error
    set_member(session, project=project, user=made.id, role=data.role)
    return _read(made, data.role)


def list_service_accounts(session: Session, *, project_id: str, query: PageQuery) -> Page[ServiceAccountRead]:
    """Return the service accounts of a project, newest first."""
    page = paginate(session, User, query, User.project_id == project_id, col(User.deleted_at).is_(None))
    ids = [account.id for account in page.items]
    members = session.exec(
        select(ProjectMember).where(ProjectMember.project_id == project_id, col(ProjectMember.user_id).in_(ids))
    )
    roles = {member.user_id: ProjectRole(member.role) for member in members}
    return page.map(lambda account: _read(account, roles.get(account.id)))


def get_service_account(session: Session, project_id: str, account_id: str) -> User:
    """Return a service account of the project.

    Raises:
        ServiceAccountNotFound: If there is none.
    """
    account = session.get(User, account_id)
    if account is None or account.project_id != project_id or account.deleted_at is not None:
        raise ServiceAccountNotFound(account_id)
    return account


def delete_service_account(session: Session, *, project_id: str, account_id: str) -> None:
    """End a service account and its keys.

    Raises:
        ServiceAccountNotFound: If there is none.
    """
    delete_account(session, get_service_account(session, project_id, account_id).id)


def delete_account(session: Session, user_id: str) -> None:
    """Delete an account, of a person or not, and take it out of its projects and teams.

    Raises:
        AccountNotFound: If there is none.
        LastAdmin: If it is the only administrator's.
    """
    left = project_ids_of(session, user_id)
    users.delete_user(session, user_id)
    session.execute(delete(ProjectMember).where(col(ProjectMember.user_id) == user_id))
    session.execute(delete(TeamMember).where(col(TeamMember.user_id) == user_id))
    for project_id in left:
        record(session, MembershipChanged(project_id=project_id))


def _read(account: User, role: ProjectRole | None) -> ServiceAccountRead:
    return ServiceAccountRead(
        id=account.id, name=account.name, email=account.email, role=role, created_at=account.created_at
    )
