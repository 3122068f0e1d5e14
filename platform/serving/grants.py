"""Who may invoke what: one document of members and keys per project, one of revocations for the platform.

A token carries identity and never rights; these documents carry the rights.
"""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

INVOKE = "endpoint:invoke"
EVERYTHING = "*"
REVOCATIONS_KEY = "all"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class KeyGrant(_Part):
    """What one API key may do in its project."""

    id: str
    permissions: frozenset[str]
    expires_at: AwareDatetime | None = None
    endpoint: str | None = Field(None, description="The only endpoint that the key may call")


class ProjectGrants(_Part):
    """The members of a project (direct, by team, or as administrators) and its keys by SHA-256."""

    kind: Literal["grants"] = "grants"
    project_id: str
    version: int = Field(ge=1)
    members: dict[str, frozenset[str]] = Field(default_factory=dict, description="Permissions by user id")
    keys: dict[str, KeyGrant] = Field(default_factory=dict, description="Grants by SHA-256 of the key, hexadecimal")

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
