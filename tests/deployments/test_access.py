"""Who may invoke a deployment: set over HTTP, decided by a model server that follows."""

from typing import Any

import httpx
import pytest

from factories import Tenant

from .conftest import NAME, Door, ModelServer, make_key, token

pytestmark = pytest.mark.integration


@pytest.fixture
def deployment(alice: Tenant, digits: int, server: ModelServer) -> str:
    """Return the id of alice's deployment."""
    return _deploy(alice).json()["id"]  # type: ignore[no-any-return]


def _deploy(tenant: Tenant, **more: Any) -> httpx.Response:
    body = {"project_id": tenant.project_id, "name": "digits", "model": "digits"} | more
    return tenant.post("/deployments", json=body)


def set_access(tenant: Tenant, deployment: str, access: Any) -> httpx.Response:
    return tenant.patch(f"/deployments/{deployment}", json={"access": access})


def test_project_is_the_default(alice: Tenant, bob: Tenant, deployment: str, door: Door) -> None:
    assert alice.get(f"/deployments/{deployment}").json()["access"] == {"policy": "project"}
    assert [door.by(token(alice)), door.by(make_key(alice)[1]), door.by(make_key(alice, "*")[1])] == [200] * 3
    assert door.by(make_key(alice, "model:read")[1]) == 403
    assert [door.by(token(bob)), door.by(make_key(bob)[1])] == [404, 404]
    assert door.by(None) == 401


def test_authenticated_takes_whoever_is_known(alice: Tenant, bob: Tenant, deployment: str, door: Door) -> None:
    changed = set_access(alice, deployment, {"policy": "authenticated"}).json()
    assert (changed["access"], [revision["number"] for revision in changed["revisions"]]) == (
        {"policy": "authenticated"},
        [1],
    )
    assert alice.get(f"/deployments/{deployment}").json()["status"] == "ready"
    assert [door.by(token(bob)), door.by(make_key(bob, "model:read")[1])] == [200, 200]
    assert [door.by(None), door.by("rm_never-made")] == [401, 401]
    bob.post("/auth/logout")
    assert door.by(token(bob)) == 401
    set_access(alice, deployment, {"policy": "project"})
    assert door.by(make_key(alice)[1]) == 200


def test_public_takes_anybody_but_no_dead_credential(alice: Tenant, bob: Tenant, deployment: str, door: Door) -> None:
    set_access(alice, deployment, {"policy": "public"})
    key_id, key = make_key(bob, "model:read")
    assert [door.by(None), door.by(token(bob)), door.by(key)] == [200, 200, 200]
    bob.delete(f"/api-keys/{key_id}")
    bob.post("/auth/logout")
    assert [door.by("rm_never-made"), door.by(key), door.by(token(bob)), door.by(None)] == [401, 401, 401, 200]
    set_access(alice, deployment, {"policy": "project"})
    assert [door.by(None), door.by(token(alice))] == [401, 200]


def test_keys_takes_no_login_and_only_the_named(alice: Tenant, bob: Tenant, deployment: str, door: Door) -> None:
    (one_id, one), (_, other) = make_key(alice), make_key(alice, "*")
    strangers = [token(bob), make_key(bob)[1]]
    set_access(alice, deployment, {"policy": "keys"})
    assert [door.by(one), door.by(other), door.by(make_key(alice, "model:read")[1])] == [200, 200, 403]
    assert [door.by(token(alice)), *map(door.by, strangers), door.by(None)] == [403, 404, 404, 401]
    set_access(alice, deployment, {"policy": "keys", "keys": [one_id]})
    assert [door.by(one), door.by(other), door.by(token(alice)), *map(door.by, strangers)] == [200, 403, 403, 404, 404]


def test_a_key_of_one_endpoint_opens_no_other(alice: Tenant, deployment: str, door: Door) -> None:
    other = _deploy(alice, name="other").json()["id"]
    _, key = make_key(alice, endpoint=NAME)
    for policy in ("project", "authenticated", "public", "keys"):
        set_access(alice, deployment, {"policy": policy})
        set_access(alice, other, {"policy": policy})
        assert [door.by(key), door.by(key, "alice-project.other")] == [200, 404], policy


def test_a_named_key_that_is_rotated_brings_its_successor(alice: Tenant, deployment: str, door: Door) -> None:
    key_id, key = make_key(alice)
    _, other = make_key(alice)
    set_access(alice, deployment, {"policy": "keys", "keys": [key_id]})
    successor = alice.post(f"/api-keys/{key_id}/rotate", json={"overlap_s": 60}).json()
    assert [door.by(key), door.by(successor["key"]), door.by(other)] == [200, 200, 403]
    held = alice.get(f"/deployments/{deployment}").json()["access"]
    assert held == {"policy": "keys", "keys": sorted([key_id, successor["id"]])}
    alice.delete(f"/api-keys/{key_id}")
    assert [door.by(key), door.by(successor["key"])] == [401, 200]
    last = alice.post(f"/api-keys/{successor['id']}/rotate", json={"overlap_s": 60}).json()
    held = alice.get(f"/deployments/{deployment}").json()["access"]["keys"]
    assert held == sorted([successor["id"], last["id"]]), "the dead are not named any more"


def test_what_means_nothing_is_refused(alice: Tenant, deployment: str) -> None:
    for access, words in NONSENSE:
        for answer in (_deploy(alice, name="new", access=access), set_access(alice, deployment, access)):
            assert (answer.status_code, answer.json()["type"]) == (422, "VALIDATION_ERROR"), access
            assert words in answer.text
    assert alice.get(f"/deployments/{deployment}").json()["access"] == {"policy": "project"}


NONSENSE: list[tuple[Any, str]] = [
    ({"policy": "everybody"}, "everybody"),
    ({"policy": "public", "keys": ["key_1"]}, "keys"),
    ({"policy": "project", "keys": None}, "keys"),
    ({"policy": "keys", "keys": []}, "at least 1"),
    ({"policy": "keys", "keys": ["key_1"]}, "key_1"),
    ({"policy": "keys", "keys": [f"key_{n}" for n in range(101)]}, "At most 100"),
    ({}, "policy"),
    ("public", "access"),
]


def test_a_policy_names_only_keys_that_could_invoke(alice: Tenant, bob: Tenant, deployment: str) -> None:
    dead, _ = make_key(alice)
    alice.delete(f"/api-keys/{dead}")
    useless = [
        dead,
        make_key(bob)[0],
        make_key(alice, "model:read")[0],
        make_key(alice, endpoint="alice-project.other")[0],
    ]
    answer = set_access(alice, deployment, {"policy": "keys", "keys": [make_key(alice)[0], *useless]})
    assert (answer.status_code, answer.json()["details"]) == (422, {"keys": sorted(useless)})
    bound, _ = make_key(alice, endpoint=NAME)
    assert set_access(alice, deployment, {"policy": "keys", "keys": [bound]}).status_code == 200


def test_only_owners_open_an_endpoint_beyond_the_project(alice: Tenant, bob: Tenant, deployment: str) -> None:
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "developer"})
    developer = Tenant(bob.client, bob.user_id, alice.project_id, bob.tokens)
    assert set_access(developer, deployment, {"policy": "keys"}).status_code == 200
    for policy in ("authenticated", "public"):
        for refused in (
            set_access(developer, deployment, {"policy": policy}),
            _deploy(developer, name="new", access={"policy": policy}),
        ):
            assert (refused.status_code, refused.json()["details"]) == (403, {"permission": "endpoint:open"})
        assert set_access(alice, deployment, {"policy": policy}).status_code == 200
        renewed = developer.patch(f"/deployments/{deployment}", json={"version": 1})
        assert renewed.json()["access"] == {"policy": policy}
        assert set_access(developer, deployment, {"policy": "project"}).status_code == 200


def test_access_and_version_change_together(alice: Tenant, deployment: str, door: Door) -> None:
    body = {"access": {"policy": "public"}, "version": 1}
    changed = alice.patch(f"/deployments/{deployment}", json=body).json()
    assert (changed["access"], changed["pending_traffic"]) == ({"policy": "public"}, {"2": 100})
    assert door.by(None) == 200
