"""What happened to sessions, accounts and keys."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ApiKeyChanged:
    """A key of this project was made or revoked."""

    project_id: str


@dataclass(frozen=True)
class ApiKeyRotated:
    """A key of this project has a successor of the same rights."""

    project_id: str
    key_id: str
    successor_id: str


@dataclass(frozen=True)
class SessionRevoked:
    """A session ended before its tokens did."""

    session_id: str


@dataclass(frozen=True)
class RefreshTokenReused:
    """A refresh token that was used before came again; its session has ended."""

    session_id: str
    user_id: str


@dataclass(frozen=True)
class AccountChanged:
    """An account was disabled or enabled, deleted, has another global role, or was made as an administrator's."""

    user_id: str


@dataclass(frozen=True)
class ApiKeyUsed:
    """A key was accepted whose last use was noted more than a minute ago."""

    key_id: str


@dataclass(frozen=True)
class SignedOn:
    """A person came in by a provider, whose groups say which teams the person is in and which not."""

    user_id: str
    provider: str
    joins: list[str]
    leaves: list[str]
