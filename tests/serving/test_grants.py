"""The grants of all projects, packed for the request path."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymill.kernel.security import hash_secret
from raymill.serving.published.grants import HeldGrants, KeyGrant, ProjectGrants

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def document(project_id: str, *, members: Any = None, keys: Any = None) -> ProjectGrants:
    held = {hash_secret(secret): grant for secret, grant in (keys or {}).items()}
    return ProjectGrants(project_id=project_id, version=1, members=members or {}, keys=held)


def key(id: str, **more: Any) -> KeyGrant:
    return KeyGrant(**({"id": id, "permissions": {"endpoint:invoke"}} | more))


def digest(secret: str) -> bytes:
    return bytes.fromhex(hash_secret(secret))


@pytest.mark.parametrize(
    ("permissions", "may_invoke"),
    [({"endpoint:invoke", "model:read"}, True), ({"*"}, True), ({"model:read"}, False), (set(), False)],
)
def test_of_all_permissions_one_is_kept(permissions: set[str], may_invoke: bool) -> None:
    held = HeldGrants()
    held.take(document("prj_1", members={"usr_1": permissions}, keys={"rm_1": key("key_1", permissions=permissions)}))
    assert held.members["prj_1"] == {"usr_1": may_invoke}
    assert held.keys[digest("rm_1")].may_invoke is may_invoke


def test_a_key_keeps_its_project_its_time_and_its_endpoint() -> None:
    held = HeldGrants()
    held.take(document("prj_1", keys={"rm_1": key("key_1", expires_at=NOW, endpoint="p.m"), "rm_2": key("key_2")}))
    bound, free = held.keys[digest("rm_1")], held.keys[digest("rm_2")]
    assert (bound.id, bound.project_id, bound.expires_at, bound.endpoint) == ("key_1", "prj_1", NOW.timestamp(), "p.m")
    assert (free.expires_at, free.endpoint) == (None, None)


def test_a_user_of_many_projects_is_held_once() -> None:
    held = HeldGrants()
    for number in range(3):
        # Each document comes with a string of its own, as from JSON.
        held.take(document(f"prj_{number}", members={"".join(["usr", "_1"]): {"endpoint:invoke"}}))
    assert len({id(user) for members in held.members.values() for user in members}) == 1


def test_a_project_that_goes_takes_its_keys_along_and_no_others() -> None:
    held = HeldGrants()
    held.take(document("prj_1", members={"usr_1": {"*"}}, keys={"rm_1": key("key_1")}))
    held.take(document("prj_2", members={"usr_1": {"*"}}, keys={"rm_2": key("key_2")}))
    held.drop("prj_1")
    held.drop("prj_never_known")
    assert (held.members.keys(), held.keys.keys()) == ({"prj_2"}, {digest("rm_2")})


PROJECTS = st.sampled_from(["prj_1", "prj_2", "prj_3"])
STEPS = st.lists(st.tuples(PROJECTS, st.none() | st.sets(st.integers(0, 5), max_size=4)), max_size=20)


def test_a_digest_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="keys"):
        ProjectGrants(project_id="prj_1", version=1, keys={"ab" * 31: key("key_1")})


@given(STEPS)
def test_what_is_held_is_the_last_document_of_each_project(steps: list[tuple[str, set[int] | None]]) -> None:
    held, last = HeldGrants(), {}
    for project_id, numbers in steps:
        if numbers is None:
            held.drop(project_id)
            last.pop(project_id, None)
        else:
            users, secrets = [f"usr_{n}" for n in numbers], [f"rm_{project_id}_{n}" for n in numbers]
            keys = {secret: key(f"key_{secret}") for secret in secrets}
            held.take(document(project_id, members={user: {"*"} for user in users}, keys=keys))
            last[project_id] = set(users), {digest(secret) for secret in secrets}
    assert {project_id: set(members) for project_id, members in held.members.items()} == {
        project_id: users for project_id, (users, _) in last.items()
    }
    assert set(held.keys) == set().union(*(keys for _, keys in last.values()))
