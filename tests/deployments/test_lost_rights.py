"""Whoever loses a right is refused by a running model server when the answer to the change arrives."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from sqlalchemy import update
from sqlmodel import col

from factories import Tenant, make_tenant
from raymill.auth.bootstrap import ADMIN_EMAIL, ensure_admin
from raymill.auth.models import User
from raymill.deployments import publisher
from raymill.kernel.resources import Resources
from raymill.serving.published import channel

from .conftest import Door, make_key, token, until

pytestmark = pytest.mark.integration


@dataclass
class Scene:
    """A deployment of alice, whom bob works with, and an administrator."""

    alice: Tenant
    bob: Tenant
    admin: Tenant

    @property
    def project(self) -> str:
        return f"/projects/{self.alice.project_id}"

    def done(self, tenant: Tenant, method: str, path: str, **more: object) -> dict[str, str]:
        answer = tenant.request(method, path, **more)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else {}  # type: ignore[no-any-return]

    def take_in(self, role: str = "viewer") -> None:
        self.done(self.alice, "PUT", f"{self.project}/members/{self.bob.user_id}", json={"role": role})

    def take_in_by_team(self) -> None:
        self.done(self.alice, "POST", "/teams", json={"name": "crew"})
        self.done(self.alice, "PUT", f"/teams/crew/members/{self.bob.user_id}", json={"role": "member"})
        self.done(self.alice, "PUT", f"{self.project}/teams/crew", json={"role": "viewer"})

    def robot_key(self) -> tuple[str, str]:
        account = self.done(self.alice, "POST", f"{self.project}/service-accounts", json={"name": "nightly"})
        return account["id"], make_key(self.alice, service_account_id=account["id"])[1]


Loss = Callable[[], object]


def member(scene: Scene) -> tuple[str, Loss]:
    scene.take_in()
    return token(scene.bob), lambda: scene.done(scene.alice, "DELETE", f"{scene.project}/members/{scene.bob.user_id}")


def key_of_a_member(scene: Scene) -> tuple[str, Loss]:
    scene.take_in("developer")
    bob = Tenant(scene.bob.client, scene.bob.user_id, scene.alice.project_id, scene.bob.tokens)
    key = make_key(bob, "*")[1]
    return key, lambda: scene.done(scene.alice, "DELETE", f"{scene.project}/members/{scene.bob.user_id}")


def member_of_a_team(scene: Scene) -> tuple[str, Loss]:
    scene.take_in_by_team()
    return token(scene.bob), lambda: scene.done(scene.alice, "DELETE", f"/teams/crew/members/{scene.bob.user_id}")


def team_of_the_project(scene: Scene) -> tuple[str, Loss]:
    scene.take_in_by_team()
    return token(scene.bob), lambda: scene.done(scene.alice, "DELETE", f"{scene.project}/teams/crew")


def team(scene: Scene) -> tuple[str, Loss]:
    scene.take_in_by_team()
    return token(scene.bob), lambda: scene.done(scene.alice, "DELETE", "/teams/crew")


def bound_of_a_team(scene: Scene) -> tuple[str, Loss]:
    scene.take_in_by_team()
    bound = {"permissions": ["project:read"]}
    return token(scene.bob), lambda: scene.done(scene.alice, "PATCH", "/teams/crew", json=bound)


def key(scene: Scene) -> tuple[str, Loss]:
    id_, secret = make_key(scene.alice)
    return secret, lambda: scene.done(scene.alice, "DELETE", f"/api-keys/{id_}")


def service_account_deleted(scene: Scene) -> tuple[str, Loss]:
    id_, secret = scene.robot_key()
    return secret, lambda: scene.done(scene.alice, "DELETE", f"{scene.project}/service-accounts/{id_}")


def service_account_disabled(scene: Scene) -> tuple[str, Loss]:
    id_, secret = scene.robot_key()
    return secret, lambda: scene.done(scene.admin, "POST", f"/users/{id_}/disable")


def user_disabled(scene: Scene) -> tuple[str, Loss]:
    scene.take_in()
    return token(scene.bob), lambda: scene.done(scene.admin, "POST", f"/users/{scene.bob.user_id}/disable")


def user_deleted(scene: Scene) -> tuple[str, Loss]:
    scene.take_in_by_team()
    return token(scene.bob), lambda: scene.done(scene.admin, "DELETE", f"/users/{scene.bob.user_id}")


def session(scene: Scene) -> tuple[str, Loss]:
    scene.take_in()
    return token(scene.bob), lambda: scene.done(scene.bob, "POST", "/auth/logout")


def all_sessions(scene: Scene) -> tuple[str, Loss]:
    scene.take_in()
    return token(scene.bob), lambda: scene.done(scene.bob, "POST", "/auth/logout-all")


def administrator(scene: Scene) -> tuple[str, Loss]:
    role = f"/users/{scene.bob.user_id}/role"
    scene.done(scene.admin, "PUT", role, json={"role": "admin"})
    return token(scene.bob), lambda: scene.done(scene.admin, "PUT", role, json={"role": "developer"})


@pytest.fixture
def scene(alice: Tenant, bob: Tenant, digits: int, resources: Resources) -> Scene:
    carol = make_tenant(alice.client, "carol")
    with resources.session() as opened:
        opened.execute(update(User).where(col(User.id) == carol.user_id).values(role="admin"))
    made = alice.post("/deployments", json={"project_id": alice.project_id, "name": "digits", "model": "digits"})
    assert made.status_code == 202, made.text
    return Scene(alice, bob, carol)


@pytest.mark.parametrize(
    ("holder", "refusal"),
    [
        (member, 404),
        (key_of_a_member, 403),
        (member_of_a_team, 404),
        (team_of_the_project, 404),
        (team, 404),
        (bound_of_a_team, 403),
        (key, 401),
        (service_account_deleted, 401),
        (service_account_disabled, 401),
        (user_disabled, 401),
        (user_deleted, 401),
        (session, 401),
        (all_sessions, 401),
        (administrator, 404),
    ],
)
def test_a_lost_right_is_lost_on_the_endpoint(
    door: Door, scene: Scene, holder: Callable[[Scene], tuple[str, Loss]], refusal: int
) -> None:
    credential, lose = holder(scene)
    assert door.by(credential) == 200
    lose()
    assert door.by(credential) == refusal
    assert door.by(token(scene.alice)) == 200


def test_a_new_administrator_may_invoke_at_once(door: Door, scene: Scene) -> None:
    token_of_bob = token(scene.bob)
    assert door.by(token_of_bob) == 404
    administrator(scene)
    assert door.by(token_of_bob) == 200
    assert door.by(make_key(scene.bob)[1]) == 404


def test_a_change_of_an_account_publishes_each_document_once(scene: Scene, resources: Resources) -> None:
    scene.take_in("developer")
    make_key(Tenant(scene.bob.client, scene.bob.user_id, scene.alice.project_id, scene.bob.tokens))
    with resources.cache.pubsub(ignore_subscribe_messages=True) as bumps:
        bumps.subscribe(channel.BUMPS)
        bumps.get_message(timeout=5)
        scene.done(scene.admin, "POST", f"/users/{scene.bob.user_id}/disable")
        told = []
        while message := bumps.get_message(timeout=0.2):
            told.append(channel.read_bump(message["data"])[0])
    grants = [f"grants:{project}" for project in (scene.alice.project_id, scene.bob.project_id)]
    assert sorted(told) == sorted(["administrators:all", *grants, "revocations:all", "revocations:all"])


def test_the_administrator_that_the_first_start_makes_may_invoke(
    door: Door, alice: Tenant, digits: int, resources: Resources
) -> None:
    alice.post("/deployments", json={"project_id": alice.project_id, "name": "digits", "model": "digits"})
    credentials = {"email": ADMIN_EMAIL, "password": ensure_admin(resources.settings)}
    login = alice.client.post("/api/v1/auth/login", json=credentials).json()
    # Nobody in that process publishes; the controller's sweep does.
    until(lambda: publisher.sweep(resources) or door.by(login["access_token"]) == 200)
