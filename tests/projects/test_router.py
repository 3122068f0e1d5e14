"""Projects, members and API keys over HTTP."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text, update
from sqlmodel import col

from factories import Tenant, make_admin
from raymill.auth.models import User
from raymill.kernel.clock import utc_now
from raymill.kernel.resources import Resources
from raymill.projects.events import MembershipChanged

pytestmark = pytest.mark.integration


def test_creator_sees_the_project_and_a_stranger_does_not(alice: Tenant, bob: Tenant) -> None:
    assert alice.get(f"/projects/{alice.project_id}").json()["name"] == "alice-project"
    assert bob.get(f"/projects/{alice.project_id}").status_code == 404
    assert [project["id"] for project in bob.get("/projects").json()["items"]] == [bob.project_id]


@pytest.mark.parametrize("name", ["", "Upper", "-dash", "dot.ted", "x" * 41])
def test_bad_names_are_refused(alice: Tenant, name: str) -> None:
    answer = alice.post("/projects", json={"name": name})
    assert (answer.status_code, answer.json()["type"]) == (422, "VALIDATION_ERROR")


def test_names_are_unique_on_the_platform(alice: Tenant, bob: Tenant) -> None:
    assert bob.post("/projects", json={"name": "alice-project"}).status_code == 409


def test_the_same_idempotency_key_makes_one_project(alice: Tenant) -> None:
    key = {"Idempotency-Key": "k1"}
    first = alice.post("/projects", json={"name": "once"}, headers=key)
    second = alice.post("/projects", json={"name": "once"}, headers=key)
    other = alice.post("/projects", json={"name": "twice"}, headers=key)
    assert first.json() == second.json()
    assert other.status_code == 409


def test_update_and_delete(alice: Tenant) -> None:
    changed = alice.patch(f"/projects/{alice.project_id}", json={"description": "digits"})
    assert changed.json()["description"] == "digits"
    assert alice.patch(f"/projects/{alice.project_id}", json={"name": "other"}).status_code == 422
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 204
    assert alice.get(f"/projects/{alice.project_id}").status_code == 404


def test_a_viewer_may_read_and_not_administer(alice: Tenant, bob: Tenant) -> None:
    members = f"/projects/{alice.project_id}/members"
    assert alice.put(f"{members}/{bob.user_id}", json={"role": "viewer"}).status_code == 200
    assert bob.get(f"/projects/{alice.project_id}").status_code == 200
    refused = bob.delete(f"/projects/{alice.project_id}")
    assert refused.status_code == 403
    assert refused.json()["details"] == {"permission": "project:admin"}


def test_the_last_owner_stays(alice: Tenant, bob: Tenant) -> None:
    members = f"/projects/{alice.project_id}/members"
    assert alice.delete(f"{members}/{alice.user_id}").status_code == 409
    assert alice.put(f"{members}/{alice.user_id}", json={"role": "viewer"}).status_code == 409
    alice.put(f"{members}/{bob.user_id}", json={"role": "owner"})
    assert alice.delete(f"{members}/{alice.user_id}").status_code == 204


def test_an_owner_with_a_dead_account_does_not_count(resources: Resources, alice: Tenant, bob: Tenant) -> None:
    members = f"/projects/{alice.project_id}/members"
    alice.put(f"{members}/{bob.user_id}", json={"role": "owner"})
    alice.post("/teams", json={"name": "readers"})
    alice.put(f"/teams/readers/members/{bob.user_id}", json={"role": "owner"})
    with resources.session() as session:
        session.execute(update(User).where(col(User.id) == bob.user_id).values(disabled_at=utc_now()))
    for path in (f"{members}/{alice.user_id}", f"/teams/readers/members/{alice.user_id}"):
        assert alice.delete(path).status_code == 409
    assert alice.delete(f"{members}/{bob.user_id}").status_code == 204


def test_an_unknown_member_is_not_found(alice: Tenant) -> None:
    answer = alice.put(f"/projects/{alice.project_id}/members/usr_nobody", json={"role": "viewer"})
    assert answer.status_code == 404


def test_key_shows_its_secret_once_and_works_until_revoked(client: TestClient, alice: Tenant) -> None:
    made = alice.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    assert made["key"].startswith("rm_")
    assert "key" not in alice.get(f"/api-keys/{made['id']}").json()
    headers = {"X-API-Key": made["key"]}
    assert client.get(f"/api/v1/projects/{alice.project_id}", headers=headers).status_code == 200
    assert alice.delete(f"/api-keys/{made['id']}").status_code == 204
    assert client.get(f"/api/v1/projects/{alice.project_id}", headers=headers).status_code == 401


def test_key_is_bound_to_its_project_and_permissions(client: TestClient, alice: Tenant) -> None:
    other = alice.post("/projects", json={"name": "other"}).json()["id"]
    body = {"name": "narrow", "project_id": alice.project_id, "permissions": ["model:read"]}
    headers = {"Authorization": f"Bearer {alice.post('/api-keys', json=body).json()['key']}"}
    assert client.get(f"/api/v1/projects/{other}", headers=headers).status_code == 404
    refused = client.get(f"/api/v1/projects/{alice.project_id}", headers=headers)
    assert refused.json()["details"] == {"permission": "project:read"}


def test_a_key_cannot_hold_more_than_its_maker(alice: Tenant, bob: Tenant) -> None:
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "developer"})
    body = {"name": "n", "project_id": alice.project_id, "permissions": ["project:admin"]}
    assert bob.post("/api-keys", json=body).status_code == 403


def test_keys_of_another_tenant_are_not_found(alice: Tenant, bob: Tenant) -> None:
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}
    made = alice.post("/api-keys", json=body).json()
    assert bob.get(f"/api-keys/{made['id']}").status_code == 404
    assert bob.delete(f"/api-keys/{made['id']}").status_code == 404
    assert bob.post("/api-keys", json=body).status_code == 404
    assert bob.get("/api-keys").json()["items"] == []


def test_lists_page_newest_first(alice: Tenant) -> None:
    made = [alice.post("/projects", json={"name": f"p{n}"}).json()["id"] for n in range(4)]
    page = alice.get("/projects", params={"limit": 3}).json()
    rest = alice.get("/projects", params={"limit": 3, "cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in page["items"] + rest["items"]] == [*reversed(made), alice.project_id]
    assert rest["next_cursor"] is None


def make_key(tenant: Tenant, **changes: object) -> httpx.Response:
    body = {"name": "ci", "project_id": tenant.project_id, "permissions": ["*"]} | changes
    return tenant.post("/api-keys", json=body)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/projects"),
        ("GET", "/projects"),
        ("GET", "/projects/{project}"),
        ("PATCH", "/projects/{project}"),
        ("DELETE", "/projects/{project}"),
        ("GET", "/projects/{project}/members"),
        ("PUT", "/projects/{project}/members/{user}"),
        ("DELETE", "/projects/{project}/members/{user}"),
        ("POST", "/api-keys"),
        ("GET", "/api-keys"),
        ("GET", "/api-keys/{key}"),
        ("DELETE", "/api-keys/{key}"),
    ],
)
def test_anonymous_gets_401_and_another_tenant_404(
    client: TestClient, alice: Tenant, bob: Tenant, method: str, path: str
) -> None:
    known = {"project": alice.project_id, "user": alice.user_id, "key": make_key(alice).json()["id"]}
    body = {"description": "x"} if method == "PATCH" else {"role": "owner"} if method == "PUT" else None
    where = path.format(**known)
    assert client.request(method, f"/api/v1{where}", json=body).status_code == 401
    if "{" in path:
        answer = bob.request(method, where, json=body)
        assert (answer.status_code, answer.json()["type"]) == (404, "RESOURCE_NOT_FOUND")
        assert "alice-project" not in answer.text


def test_a_member_is_named_by_email_too(alice: Tenant, bob: Tenant) -> None:
    members = f"/projects/{alice.project_id}/members"
    added = alice.put(f"{members}/Bob@example.com", json={"role": "developer"}).json()
    assert (added["user_id"], added["email"], added["name"]) == (bob.user_id, "bob@example.com", "Bob")
    listed = bob.get(members).json()
    assert [(member["email"], member["role"]) for member in listed["items"]] == [
        ("bob@example.com", "developer"),
        ("alice@example.com", "owner"),
    ]
    assert alice.delete(f"{members}/bob@example.com").status_code == 204
    assert bob.get(members).status_code == 404
    assert alice.delete(f"{members}/bob@example.com").status_code == 404


def test_an_unknown_role_is_refused(alice: Tenant, bob: Tenant) -> None:
    answer = alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "admin"})
    assert answer.status_code == 422


def test_a_project_that_holds_something_is_not_deleted(owner: Engine, alice: Tenant) -> None:
    with owner.begin() as connection:
        connection.execute(text("CREATE TABLE big_thing (project_id text REFERENCES project (id))"))
        connection.execute(text("INSERT INTO big_thing VALUES (:id)"), {"id": alice.project_id})
    try:
        refused = alice.delete(f"/projects/{alice.project_id}")
        assert (refused.status_code, refused.json()["details"]) == (409, {"remaining": "big_thing"})
        assert "big thing" in refused.json()["message"]
        assert alice.get(f"/projects/{alice.project_id}/members").json()["items"] != []
    finally:
        with owner.begin() as connection:
            connection.execute(text("DROP TABLE big_thing"))
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 204


def test_keys_die_with_their_project(client: TestClient, alice: Tenant) -> None:
    key = make_key(alice).json()["key"]
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 204
    assert client.get("/api/v1/projects", headers={"X-API-Key": key}).status_code == 401


def test_a_key_makes_no_project(client: TestClient, alice: Tenant) -> None:
    headers = {"X-API-Key": make_key(alice).json()["key"]}
    refused = client.post("/api/v1/projects", json={"name": "more"}, headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (403, "AUTHORIZATION_ERROR")


@pytest.mark.parametrize("role", ["viewer", "guest"])
def test_viewers_and_guests_of_the_platform_make_no_project(resources: Resources, alice: Tenant, role: str) -> None:
    with resources.session() as session:
        session.execute(update(User).where(col(User.id) == alice.user_id).values(role=role))
    refused = alice.post("/projects", json={"name": "more"})
    assert refused.status_code == 403
    assert "project:create" in refused.json()["message"]
    assert alice.get(f"/projects/{alice.project_id}").status_code == 200


def test_an_administrator_may_everything_but_keys_need_membership(
    client: TestClient, alice: Tenant, bob: Tenant
) -> None:
    make_admin(bob)
    assert {project["id"] for project in bob.get("/projects").json()["items"]} == {alice.project_id, bob.project_id}
    refused = bob.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]})
    assert refused.status_code == 403
    assert "member" in refused.json()["message"]
    joined = bob.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "viewer"})
    assert joined.status_code == 200
    wide = {"name": "ci", "project_id": alice.project_id, "permissions": ["model:write"]}
    assert bob.post("/api-keys", json=wide).status_code == 403
    headers = {"X-API-Key": bob.post("/api-keys", json=wide | {"permissions": ["*"]}).json()["key"]}
    assert client.get(f"/api/v1/projects/{alice.project_id}", headers=headers).status_code == 200
    assert client.delete(f"/api/v1/projects/{alice.project_id}", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"permissions": []},
        {"permissions": ["model:explode"]},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"surprise": 1},
        {"name": " "},
    ],
)
def test_a_key_that_cannot_be_honoured_is_refused(alice: Tenant, changes: dict[str, object]) -> None:
    answer = make_key(alice, **changes)
    assert (answer.status_code, answer.json()["type"]) == (422, "VALIDATION_ERROR")


def test_a_key_weakens_with_its_maker(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    member = f"/projects/{alice.project_id}/members/{bob.user_id}"
    alice.put(member, json={"role": "owner"})
    key = bob.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    headers = {"X-API-Key": key["key"]}
    where = f"/api/v1/projects/{alice.project_id}"
    change = {"description": "by key"}
    assert client.patch(where, headers=headers, json=change).status_code == 200
    alice.put(member, json={"role": "viewer"})
    assert client.patch(where, headers=headers, json=change).status_code == 403
    alice.delete(member)
    assert client.get(where, headers=headers).status_code == 404


def test_a_narrow_key_makes_no_wider_key(client: TestClient, alice: Tenant) -> None:
    narrow = make_key(alice, permissions=["key:write", "model:read"]).json()
    headers = {"X-API-Key": narrow["key"]}
    body = {"name": "child", "project_id": alice.project_id, "permissions": ["*"]}
    child = client.post("/api/v1/api-keys", headers=headers, json=body).json()
    assert child["permissions"] == ["key:write", "model:read"]
    wider = body | {"permissions": ["model:write"]}
    refused = client.post("/api/v1/api-keys", headers=headers, json=wider)
    assert (refused.status_code, refused.json()["details"]) == (403, {"permissions": ["model:write"]})


def test_keys_are_listed_by_project(alice: Tenant) -> None:
    other = alice.post("/projects", json={"name": "other"}).json()["id"]
    first, second = make_key(alice).json()["id"], make_key(alice, project_id=other).json()["id"]
    assert [key["id"] for key in alice.get("/api-keys").json()["items"]] == [second, first]
    listed = alice.get("/api-keys", params={"project_id": other}).json()["items"]
    assert [key["id"] for key in listed] == [second]


def test_a_change_of_members_is_an_event(resources: Resources, alice: Tenant, bob: Tenant) -> None:
    seen: list[MembershipChanged] = []
    resources.events.subscribe(MembershipChanged, seen.append)
    member = f"/projects/{alice.project_id}/members/{bob.user_id}"
    alice.put(member, json={"role": "viewer"})
    alice.delete(member)
    alice.delete(f"/projects/{alice.project_id}")
    assert seen == [MembershipChanged(project_id=alice.project_id)] * 3


def test_parallel_changes_of_members_keep_one_row_and_one_owner(alice: Tenant, bob: Tenant) -> None:
    members = f"/projects/{alice.project_id}/members"
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: alice.put(f"{members}/{bob.user_id}", json={"role": "owner"}), range(4)))
        assert {answer.status_code for answer in added} == {200}
        pool.submit(alice.delete, f"{members}/{bob.user_id}")
        pool.submit(bob.delete, f"{members}/{alice.user_id}")
    left = [tenant.get(members) for tenant in (alice, bob)]
    assert sorted(answer.status_code for answer in left) == [200, 404]


def test_parallel_projects_of_one_name_make_one(alice: Tenant) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: alice.post("/projects", json={"name": "same"}).status_code, range(4)))
    assert sorted(answers) == [201, 409, 409, 409]
