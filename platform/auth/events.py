"""What happened to sessions, accounts and keys."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ApiKeyChanged:
    """A key of this project was made or revoked."""

    project_id: str


@dataclass(frozen=True)
class SessionRevoked:
    """A session ended before its tokens did."""

    session_id: str
