"""Everybody who may stand before a project's door: each role, by each way, and keys."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi.testclient import TestClient
from sqlmodel import Session

from belongings import Belongings
from factories import register
from raymill.auth import keys, users
from raymill.auth.permissions import GLOBAL_ROLES, JOB_PERMISSIONS, ROLES, GlobalRole, Permission, ProjectRole
from raymill.kernel.resources import Resources

# What the team of ``bounded`` gets by it, whatever its role in the project.
BOUND = [Permission.PROJECT_READ, Permission.DATASET_READ, Permission.DATASET_WRITE]


@dataclass(frozen=True)
class Who:
    """A principal, and what the permission table gives it: on the platform, and in the project."""

    name: str
    headers: dict[str, str]
    platform: frozenset[Permission] = frozenset()
    held: frozenset[Permission] = frozenset()
    kind: str = "user"
    team: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether this is an administrator's login."""
        return Permission.USER_ADMIN in self.platform


def everybody(client: TestClient, resources: Resources, mine: Belongings) -> list[Who]:
    """Return the principals of the walk."""
    return [*_members(client, mine), *_outsiders(client, resources), _job(mine)]


def _person(client: TestClient, name: str, role: GlobalRole = GlobalRole.DEVELOPER) -> tuple[str, Who]:
    tokens = register(client, name)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    return tokens["user"]["id"], Who(name, headers, platform=GLOBAL_ROLES[role])


def _members(client: TestClient, mine: Belongings) -> list[Who]:
    owner, project = mine.tenant, f"/projects/{mine.tenant.project_id}"
    login = {"Authorization": f"Bearer {owner.tokens['access_token']}"}
    found = [Who("owner", login, GLOBAL_ROLES[GlobalRole.DEVELOPER], ROLES[ProjectRole.OWNER], team="owner")]
    for role in (ProjectRole.DEVELOPER, ProjectRole.VIEWER):
        id_, who = _person(client, str(role))
        _ok(owner.put(f"{project}/members/{id_}", json={"role": role}))
        found.append(replace(who, held=ROLES[role]))
    id_, who = _person(client, "by-team")
    _ok(owner.put(f"/teams/{mine.values['team_id']}/members/{id_}", json={}))
    found.append(replace(who, held=ROLES[ProjectRole.VIEWER], team="member"))
    id_, who = _person(client, "bounded")
    team = _ok(owner.post("/teams", json={"name": "bounded", "permissions": BOUND}))["id"]
    _ok(owner.put(f"/teams/{team}/members/{id_}", json={}))
    _ok(owner.put(f"{project}/teams/{team}", json={"role": "developer"}))
    found.append(replace(who, held=ROLES[ProjectRole.DEVELOPER] & frozenset(BOUND)))
    return found


def _outsiders(client: TestClient, resources: Resources) -> list[Who]:
    found = []
    for role in GlobalRole:
        id_, who = _person(client, f"{role}-stranger", role)
        with resources.session() as session:
            users.assign_role(session, id_, role)
        is_admin = role is GlobalRole.ADMIN
        found.append(replace(who, held=frozenset(Permission) if is_admin else frozenset()))
    return found


def keys_for(resources: Resources, mine: Belongings, asked: Sequence[Permission]) -> list[Who]:
    """Return a key that holds what is asked and nothing else, and for each of that a key that holds all but it."""
    sets = [frozenset(asked), *(ROLES[ProjectRole.OWNER] - {permission} for permission in asked)]
    with resources.session() as session:
        return [_key(session, mine, held) for held in sets if held <= ROLES[ProjectRole.OWNER]]


def _key(session: Session, mine: Belongings, held: frozenset[Permission]) -> Who:
    names = sorted(held)
    _, secret = keys.create_key(
        session,
        name="walker",
        project_id=mine.tenant.project_id,
        permissions=list(names),
        created_by=mine.tenant.user_id,
    )
    return Who(f"key of {', '.join(names)}", {"X-API-Key": secret}, held=held, kind="key")


def _job(mine: Belongings) -> Who:
    return Who("job", {"X-API-Key": mine.job_key}, held=JOB_PERMISSIONS, kind="job")


def _ok(answer: Any) -> Any:
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None
