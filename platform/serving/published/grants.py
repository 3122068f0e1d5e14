"""Who may invoke what: one document of members and keys per project, two for the platform.

A token carries identity and never rights; these documents carry the rights. A model server holds those of all projects
in memory, so they are packed: each id once, digests as bytes, and of all permissions the one that is asked for.
"""

import sys
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from .key_table import KeyTable, KnownKey

INVOKE = "endpoint:invoke"
EVERYTHING = "*"
REVOCATIONS_KEY = ADMINISTRATORS_KEY = "all"


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class KeyGrant(_Part):
    """What one API key may do in its project."""

    id: str
    permissions: frozenset[str]
    expires_at: AwareDatetime | None = None
    endpoint: str | None = Field(None, description="The only endpoint that the key may call")


class ProjectGrants(_Part):
    """The members of a project, direct or by team, and its keys by SHA-256."""

    kind: Literal["grants"] = "grants"
    project_id: str
    version: int = Field(ge=1)
    members: dict[str, frozenset[str]] = Field(default_factory=dict, description="Permissions by user id")
    keys: dict[Digest, KeyGrant] = Field(default_factory=dict, description="Grants by SHA-256 of the key, hexadecimal")

    @property
    def key(self) -> str:
        """The document's name: its project."""
        return self.project_id


class Revocations(_Part):
    """Sessions and users that are dead although their access tokens have not expired yet."""

    kind: Literal["revocations"] = "revocations"
    version: int = Field(ge=1)
    sessions: dict[str, AwareDatetime] = Field(default_factory=dict, description="When the session's last token dies")
    users: frozenset[str] = Field(frozenset(), description="Disabled users")

    @property
    def key(self) -> str:
        """The document's name: there is one for the whole platform."""
        return REVOCATIONS_KEY


class Administrators(_Part):
    """The accounts whose logins may invoke in every project."""

    kind: Literal["administrators"] = "administrators"
    version: int = Field(ge=1)
    users: frozenset[str] = Field(frozenset(), description="Living accounts with the global role")

    @property
    def key(self) -> str:
        """The document's name: there is one for the whole platform."""
        return ADMINISTRATORS_KEY


class HeldGrants:
    """The grants of all projects as the request path reads them."""

    __slots__ = ("keys", "members")

    def __init__(self) -> None:
        #: By project and user id: whether the member may invoke.
        self.members: dict[str, dict[str, bool]] = {}
        #: By SHA-256 of the key.
        self.keys = KeyTable()

    def take(self, grants: ProjectGrants) -> None:
        """Put a project's grants in the place of those held before."""
        project_id = sys.intern(grants.project_id)
        # One user is a member of many projects.
        self.members[project_id] = {sys.intern(user): _may_invoke(held) for user, held in grants.members.items()}
        keys = {bytes.fromhex(digest): _known(project_id, key) for digest, key in grants.keys.items()}
        self.keys.put(project_id, keys)

    def drop(self, project_id: str) -> None:
        """Forget a project."""
        self.members.pop(project_id, None)
        self.keys.drop(project_id)


def _known(project_id: str, key: KeyGrant) -> KnownKey:
    expires_at = key.expires_at.timestamp() if key.expires_at else None
    endpoint = sys.intern(key.endpoint) if key.endpoint else None
    return KnownKey(key.id, project_id, _may_invoke(key.permissions), expires_at, endpoint)


def _may_invoke(permissions: frozenset[str]) -> bool:
    return INVOKE in permissions or EVERYTHING in permissions
