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
    created_at: datetime


class Login(Document):
    """A session's tokens; ``expires_in`` is the access token's life in seconds."""

    user: User
    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


class Auth:
    """Calls below ``/auth``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def register(self, *, email: str, name: str, password: str) -> Login:
        """Make an account and log it in."""
        return self._login("register", {"email": email, "name": name, "password": password})

    def login(self, *, email: str, password: str) -> Login:
        """Open a session."""
        return self._login("login", {"email": email, "password": password})

    def refresh(self, refresh_token: str) -> Login:
        """Exchange a refresh token, which works once, for a new pair."""
        return self._login("refresh", {"refresh_token": refresh_token})

    def logout(self) -> None:
        """End the session of the client's token."""
        self._transport.request("POST", "/api/v1/auth/logout")

    def me(self) -> User:
        """Return the account of the client's token."""
        return User.model_validate(self._transport.document("GET", "/api/v1/auth/me"))

    def validate(self, token: str) -> dict[str, Any]:
        """Say whether an access token would be accepted now."""
        verdict: dict[str, Any] = self._transport.document("POST", "/api/v1/auth/validate", json={"token": token})
        return verdict

    def _login(self, verb: str, body: dict[str, str]) -> Login:
        return Login.model_validate(self._transport.document("POST", f"/api/v1/auth/{verb}", json=body))
