"""Administration of accounts."""

from collections.abc import Iterator
from datetime import datetime

from .auth import User
from .documents import Document
from .transport import Transport

_PATH = "/api/v1/users"


class Account(User):
    """An account as an administrator sees it; ``project_id`` names the project of a service account."""

    project_id: str | None
    disabled_at: datetime | None


class Invitation(Document):
    """An invitation without its token."""

    id: str
    email: str
    role: str
    expires_at: datetime


class NewInvitation(Invitation):
    """An invitation with its token, which is shown this once."""

    token: str


class Users:
    """Calls below ``/users``; they need the permission ``user:admin``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Account]:
        """Walk through all accounts, newest first."""
        return (Account.model_validate(item) for item in self._transport.items(_PATH))

    def get(self, user_id: str) -> Account:
        """Return an account."""
        return Account.model_validate(self._transport.document("GET", f"{_PATH}/{user_id}"))

    def assign_role(self, user_id: str, role: str) -> Account:
        """Give an account another global role: ``admin``, ``developer``, ``viewer`` or ``guest``."""
        answer = self._transport.document("PUT", f"{_PATH}/{user_id}/role", json={"role": role})
        return Account.model_validate(answer)

    def disable(self, user_id: str) -> Account:
        """Lock an account out; its sessions die and its keys work no more."""
        return Account.model_validate(self._transport.document("POST", f"{_PATH}/{user_id}/disable"))

    def enable(self, user_id: str) -> Account:
        """Let an account in again."""
        return Account.model_validate(self._transport.document("POST", f"{_PATH}/{user_id}/enable"))

    def delete(self, user_id: str) -> None:
        """Lock an account out for good and forget who it was."""
        self._transport.request("DELETE", f"{_PATH}/{user_id}")

    def invite(self, email: str, *, role: str = "developer") -> NewInvitation:
        """Let an address register once; hand the token to its owner."""
        body = {"email": email, "role": role}
        return NewInvitation.model_validate(self._transport.document("POST", f"{_PATH}/invitations", json=body))

    def invitations(self) -> Iterator[Invitation]:
        """Walk through the invitations that still wait, newest first."""
        return (Invitation.model_validate(item) for item in self._transport.items(f"{_PATH}/invitations"))

    def withdraw(self, invitation_id: str) -> None:
        """Remove an invitation that was not used."""
        self._transport.request("DELETE", f"{_PATH}/invitations/{invitation_id}")


class ServiceAccount(Document):
    """A member of one project that is no person; ``role`` is None when it is no member any more."""

    id: str
    name: str
    email: str
    role: str | None
    created_at: datetime


class ServiceAccounts:
    """Calls below ``/projects/{id}/service-accounts``; changes need the permission ``project:admin``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, project_id: str, name: str, *, role: str = "viewer") -> ServiceAccount:
        """Make a service account; make its keys with ``client.api_keys``."""
        answer = self._transport.document("POST", _service_accounts(project_id), json={"name": name, "role": role})
        return ServiceAccount.model_validate(answer)

    def list(self, project_id: str) -> Iterator[ServiceAccount]:
        """Walk through the service accounts of a project, newest first."""
        items = self._transport.items(_service_accounts(project_id))
        return (ServiceAccount.model_validate(item) for item in items)

    def delete(self, project_id: str, account_id: str) -> None:
        """End a service account and its keys."""
        self._transport.request("DELETE", f"{_service_accounts(project_id)}/{account_id}")


def _service_accounts(project_id: str) -> str:
    return f"/api/v1/projects/{project_id}/service-accounts"
