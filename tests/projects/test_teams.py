"""Teams over HTTP: who sees them, who changes them, and what they give in projects."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlmodel import col

from factories import Tenant, give_role, make_admin, make_tenant
from raymill.auth.models import User
from raymill.auth.permissions import ROLES, Permission, ProjectRole
from raymill.deployments.compile import DATA_PLANE
from raymill.deployments.publication import Subject, commit
from raymill.kernel.resources import Resources
from raymill.projects import service, teams
from raymill.projects.events import MembershipChanged
from raymill.sdk import Client
from raymill.serving.published.documents import unseal
from raymill.serving.published.grants import ProjectGrants

pytestmark = pytest.mark.integration


@pytest.fixture
def carol(client: TestClient) -> Tenant:
    return make_tenant(client, "carol")


def make_team(owner: Tenant, *others: Tenant, **fields: object) -> str:
    team = owner.post("/teams", json={"name": "readers"} | fields)
    assert team.status_code == 201, team.text
    for other in others:
        assert owner.put(f"/teams/readers/members/{other.user_id}", json={}).status_code == 200
    made: str = team.json()["id"]
    return made


def test_a_team_shows_its_members_and_projects(alice: Tenant, bob: Tenant) -> None:
    team_id = make_team(alice, bob, description="who reads", permissions=["project:read", "model:read", "model:write"])
    assert alice.put(f"/projects/{alice.project_id}/teams/readers", json={"role": "viewer"}).status_code == 204
    team = bob.get(f"/teams/{team_id}").json()
    assert (team["name"], team["description"]) == ("readers", "who reads")
    assert [(one["email"], one["role"]) for one in team["members"]] == [
        ("alice@example.com", "owner"),
        ("bob@example.com", "member"),
    ]
    assert team["projects"] == [
        {
            "project_id": alice.project_id,
            "name": "alice-project",
            "role": "viewer",
            "permissions": ["model:read", "project:read"],
        }
    ]
    assert alice.get(f"/projects/{alice.project_id}/teams").json() == [
        {"team_id": team_id, "name": "readers", "role": "viewer"}
    ]
    assert [one["id"] for one in bob.get("/teams").json()["items"]] == [team_id]


@pytest.mark.parametrize("role", list(ProjectRole))
def test_a_member_by_team_may_what_the_role_says(
    resources: Resources, alice: Tenant, bob: Tenant, role: ProjectRole
) -> None:
    make_team(alice, bob)
    where = f"/projects/{alice.project_id}"
    assert bob.get(where).status_code == 404
    alice.put(f"{where}/teams/readers", json={"role": role})
    with resources.session() as session:
        assert service.member_permissions(session, alice.project_id)[bob.user_id] == ROLES[role]
    assert bob.get(where).status_code == 200
    assert where.endswith(bob.get("/projects").json()["items"][1]["id"])
    changed = bob.patch(where, json={"description": "by team"})
    assert changed.status_code == (200 if role is ProjectRole.OWNER else 403)
    if role is not ProjectRole.OWNER:
        assert changed.json()["details"] == {"permission": "project:admin"}
    assert alice.delete(f"{where}/teams/readers").status_code == 204
    assert bob.get(where).status_code == 404


def test_rights_by_team_and_by_membership_add_up(resources: Resources, alice: Tenant, bob: Tenant) -> None:
    make_team(alice, bob, permissions=["model:write", "project:admin"])
    where = f"/projects/{alice.project_id}"
    alice.put(f"{where}/teams/readers", json={"role": "developer"})
    alice.put(f"{where}/members/{bob.user_id}", json={"role": "viewer"})
    with resources.session() as session:
        held = service.member_permissions(session, alice.project_id)[bob.user_id]
    assert held == ROLES[ProjectRole.VIEWER] | {Permission.MODEL_WRITE}


def test_a_key_of_a_member_by_team_dies_with_the_membership(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    make_team(alice, bob)
    where = f"/projects/{alice.project_id}"
    alice.put(f"{where}/teams/readers", json={"role": "developer"})
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["project:read"]}
    headers = {"X-API-Key": bob.post("/api-keys", json=body).json()["key"]}
    assert client.get(f"/api/v1{where}", headers=headers).status_code == 200
    assert client.get("/api/v1/teams", headers=headers).json()["items"] == []
    assert client.get("/api/v1/teams/readers", headers=headers).status_code == 404
    assert alice.delete(f"/teams/readers/members/{bob.user_id}").status_code == 204
    assert client.get(f"/api/v1{where}", headers=headers).status_code == 404


def test_the_data_plane_learns_of_members_by_team(resources: Resources, alice: Tenant, bob: Tenant) -> None:
    make_team(alice, bob)
    seen: list[str] = []
    resources.events.subscribe(MembershipChanged, lambda event: seen.append(event.project_id))

    def members() -> dict[str, frozenset[str]]:
        sealed = commit(resources, Subject("grants", alice.project_id, alice.project_id))
        document = unseal(sealed, resources.signer.verifier)
        assert isinstance(document, ProjectGrants)
        return dict(document.members)

    assert bob.user_id not in members()
    alice.put(f"/projects/{alice.project_id}/teams/readers", json={"role": "viewer"})
    assert members()[bob.user_id] == frozenset(one.value for one in DATA_PLANE)
    alice.patch("/teams/readers", json={"permissions": ["model:read"]})
    assert members()[bob.user_id] == frozenset()
    alice.delete(f"/teams/readers/members/{bob.user_id}")
    assert bob.user_id not in members()
    alice.put("/teams/readers/members/bob@example.com", json={"role": "owner"})
    alice.delete("/teams/readers")
    assert bob.user_id not in members()
    assert seen == [alice.project_id] * 5


def test_only_its_owners_change_a_team(alice: Tenant, bob: Tenant, carol: Tenant) -> None:
    make_team(alice, bob)
    for method, path, body in (
        ("PATCH", "/teams/readers", {"description": "x"}),
        ("DELETE", "/teams/readers", None),
        ("PUT", f"/teams/readers/members/{carol.user_id}", {}),
        ("DELETE", f"/teams/readers/members/{alice.user_id}", None),
    ):
        refused = bob.request(method, path, json=body)
        assert (refused.status_code, refused.json()["details"]) == (403, {"permission": "team:admin"})
        assert carol.request(method, path, json=body).status_code == 404


def test_a_team_of_strangers_gets_no_role(alice: Tenant, bob: Tenant) -> None:
    team_id = make_team(alice)
    for name in ("readers", team_id, "nobody"):
        answer = bob.put(f"/projects/{bob.project_id}/teams/{name}", json={"role": "viewer"})
        assert (answer.status_code, answer.json()["message"]) == (404, f"There is no team {name!r}.")
    assert bob.get(f"/teams/{team_id}").status_code == 404
    assert bob.get("/teams").json()["items"] == []
    assert bob.delete(f"/projects/{bob.project_id}/teams/readers").status_code == 404


def test_projects_of_strangers_do_not_show_in_a_team(alice: Tenant, bob: Tenant) -> None:
    make_team(alice, bob, permissions=["model:read"])
    alice.put(f"/projects/{alice.project_id}/teams/readers", json={"role": "viewer"})
    assert bob.get("/teams/readers").json()["projects"] == []


def test_the_last_owner_of_a_team_stays(alice: Tenant, bob: Tenant) -> None:
    make_team(alice, bob)
    mine = f"/teams/readers/members/{alice.user_id}"
    assert alice.delete(mine).status_code == 409
    assert alice.put(mine, json={"role": "member"}).status_code == 409
    alice.put(f"/teams/readers/members/{bob.user_id}", json={"role": "owner"})
    with ThreadPoolExecutor(2) as pool:
        theirs = f"/teams/readers/members/{bob.user_id}"
        statuses = sorted(pool.map(lambda path: alice.delete(path).status_code, (mine, theirs)))
    assert statuses in ([204, 404], [204, 409])


def test_guests_of_the_platform_join_nothing(resources: Resources, alice: Tenant, bob: Tenant) -> None:
    make_team(alice)
    with resources.session() as session:
        session.execute(update(User).where(col(User.id) == bob.user_id).values(role="guest"))
    for path in (f"/projects/{alice.project_id}/members/{bob.user_id}", f"/teams/readers/members/{bob.user_id}"):
        refused = alice.put(path, json={"role": "owner"})
        assert (refused.status_code, refused.json()["details"]) == (409, {"permission": "project:join"})
    with resources.session() as session:
        session.execute(update(User).where(col(User.id) == bob.user_id).values(role="viewer"))
    assert alice.put(f"/teams/readers/members/{bob.user_id}", json={"role": "owner"}).status_code == 200


def test_names_are_unique_and_plain(alice: Tenant, bob: Tenant) -> None:
    make_team(alice)
    assert bob.post("/teams", json={"name": "readers"}).status_code == 409
    assert bob.post("/teams", json={"name": "No Good"}).status_code == 422
    assert bob.post("/teams", json={"name": "ok", "permissions": ["model:explode"]}).status_code == 422
    assert alice.put("/teams/readers/members/nobody@example.com", json={}).status_code == 404
    assert alice.delete("/teams/readers/members/nobody@example.com").status_code == 404


def test_administrators_see_all_teams_and_viewers_make_none(
    resources: Resources, alice: Tenant, bob: Tenant, carol: Tenant
) -> None:
    team_id = make_team(alice)
    make_admin(bob)
    give_role(carol, "viewer")
    assert [one["id"] for one in bob.get("/teams").json()["items"]] == [team_id]
    assert bob.patch("/teams/readers", json={"description": "by admin"}).json()["description"] == "by admin"
    assert carol.post("/teams", json={"name": "more"}).status_code == 403
    with resources.session() as session:
        assert [team.name for team in teams.teams_of(session, alice.user_id)] == ["readers"]
        assert teams.teams_of(session, bob.user_id) == []


def test_the_client_library_makes_and_changes_teams(platform_url: str, client: TestClient, bob: Tenant) -> None:
    ann = make_tenant(client, "ann")
    with Client(platform_url, ann.tokens["access_token"]) as library:
        team = library.teams.create("readers", permissions=["project:read"])
        library.teams.set_member("readers", "bob@example.com")
        library.projects.set_team(ann.project_id, team.id, role="developer")
        assert [one["email"] for one in library.teams.get("readers").members] == ["ann@example.com", "bob@example.com"]
        assert bob.get(f"/projects/{ann.project_id}").status_code == 200
        library.teams.remove_member("readers", bob.user_id)
        assert bob.get(f"/projects/{ann.project_id}").status_code == 404
        assert library.teams.update("readers", description="new").description == "new"
        library.projects.remove_team(ann.project_id, "readers")
        library.teams.delete("readers")
        assert list(library.teams.list()) == []
        library.projects.set_member(ann.project_id, "bob@example.com", role="viewer")
        assert {one.email for one in library.projects.members(ann.project_id)} == {"ann@example.com", "bob@example.com"}
        library.projects.remove_member(ann.project_id, bob.user_id)
        assert library.projects.archive(ann.project_id).archived_at is not None
        assert library.projects.restore(ann.project_id).archived_at is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/teams"),
        ("GET", "/teams"),
        ("GET", "/teams/readers"),
        ("PATCH", "/teams/readers"),
        ("DELETE", "/teams/readers"),
        ("PUT", "/teams/readers/members/usr_1"),
        ("DELETE", "/teams/readers/members/usr_1"),
        ("GET", "/projects/prj_1/teams"),
        ("PUT", "/projects/prj_1/teams/readers"),
        ("DELETE", "/projects/prj_1/teams/readers"),
    ],
)
def test_anonymous_gets_401(client: TestClient, method: str, path: str) -> None:
    assert client.request(method, f"/api/v1{path}").status_code == 401
