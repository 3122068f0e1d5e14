"""Accounts and sessions."""

from datetime import datetime
from typing import Any

from .documents import Document
from .transport import Transport


class User(Document):
    """An account."""

    id: str
    email: str
    name: str
    role: str
    preferences: dict[str, Any] = {}
    teams: list[str] = []
    created_at: datetime
    last_login_at: datetime | None = None


class Login(Document):
    """A session's tokens; ``expires_in`` is the access token's life in seconds."""

    user: User
    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


class Rights(Document):
    """What a credential may do in one project."""

    project_id: str
    project_name: str
    permissions: list[str]


class Identity(Document):
    """Who a credential stands for: an account, an API key or a job, and its effective rights."""

    id: str
    kind: str
    user_id: str
    role: str
    permissions: list[str]
    project_id: str | None
    endpoint: str | None
    projects: list[Rights]


class Auth:
    """Calls below ``/auth``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def register(self, *, email: str, name: str, password: str, invitation: str | None = None) -> Login:
        """Make an account and log it in; some platforms want the token of an invitation."""
        body = {"email": email, "name": name, "password": password, "invitation": invitation}
        return self._login("register", body)

    def login(self, *, email: str, password: str) -> Login:
        """Open a session."""
        return self._login("login", {"email": email, "password": password})

    def refresh(self, refresh_token: str) -> Login:
        """Exchange a refresh token, which works once, for a new pair."""
        return self._login("refresh", {"refresh_token": refresh_token})

    def logout(self) -> None:
        """End the session of the client's token."""
        self._transport.request("POST", "/api/v1/auth/logout")

    def logout_all(self) -> None:
        """End every session of the client's account."""
        self._transport.request("POST", "/api/v1/auth/logout-all")

    def change_password(self, *, current: str, new: str) -> None:
        """Replace the account's password; its other sessions end."""
        body = {"current_password": current, "new_password": new}
        self._transport.request("POST", "/api/v1/auth/password", json=body)

    def me(self) -> User:
        """Return the account of the client's token."""
        return User.model_validate(self._transport.document("GET", "/api/v1/auth/me"))

    def update_me(self, *, name: str | None = None, preferences: dict[str, Any] | None = None) -> User:
        """Change the account's name, or replace its preferences."""
        body = {"name": name, "preferences": preferences}
        return User.model_validate(self._transport.document("PATCH", "/api/v1/auth/me", json=body))

    def whoami(self) -> Identity:
        """Say who the client's credential stands for and what it may do in which project."""
        return Identity.model_validate(self._transport.document("GET", "/api/v1/auth/whoami"))

    def validate(self, token: str) -> dict[str, Any]:
        """Say whether an access token would be accepted now."""
        verdict: dict[str, Any] = self._transport.document("POST", "/api/v1/auth/validate", json={"token": token})
        return verdict

    def _login(self, verb: str, body: dict[str, str | None]) -> Login:
        return Login.model_validate(self._transport.document("POST", f"/api/v1/auth/{verb}", json=body))
