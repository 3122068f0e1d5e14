"""What happened to projects."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MembershipChanged:
    """The members of this project, or their roles, are other than before."""

    project_id: str
