"""What happens to accounts and signing keys reaches the model servers that run."""

import pytest
from fastapi.testclient import TestClient

from factories import Tenant, make_admin
from raymill.deployments import publisher
from raymill.kernel.keyfiles import rotate_keys
from raymill.kernel.resources import Resources
from raymill.kernel.security import hash_secret

from .conftest import ModelServer, model_server, until

pytestmark = pytest.mark.integration


@pytest.fixture
def admin(bob: Tenant) -> Tenant:
    """Return bob as an administrator."""
    return make_admin(bob)


def test_a_disabled_account_is_refused_when_the_answer_comes(
    alice: Tenant, admin: Tenant, server: ModelServer, resources: Resources
) -> None:
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}
    digest = bytes.fromhex(hash_secret(alice.post("/api-keys", json=body).json()["key"]))
    session_id = resources.signer.verifier.claims(alice.tokens["access_token"]).session_id
    directory = server.directory
    assert digest in directory.keys
    assert admin.post(f"/users/{alice.user_id}/disable").status_code == 200
    assert session_id in directory.revoked_sessions
    assert alice.user_id in directory.disabled_users
    assert digest not in directory.keys
    assert admin.post(f"/users/{alice.user_id}/enable").status_code == 200
    assert session_id in directory.revoked_sessions
    assert alice.user_id not in directory.disabled_users
    assert digest in directory.keys
    assert alice.user_id in directory.members[alice.project_id]


def test_a_deleted_account_leaves_every_grant(alice: Tenant, admin: Tenant, server: ModelServer) -> None:
    alice.put(f"/projects/{alice.project_id}/members/{admin.user_id}", json={"role": "owner"})
    until(lambda: alice.user_id in server.directory.members.get(alice.project_id, {}))
    assert admin.delete(f"/users/{alice.user_id}").status_code == 204
    assert alice.user_id not in server.directory.members[alice.project_id]
    assert alice.user_id in server.directory.disabled_users


def test_a_rotation_of_keys_reaches_servers_that_run_and_those_that_come(
    client: TestClient, alice: Tenant, digits: int, server: ModelServer, resources: Resources
) -> None:
    alice.post("/deployments", json={"project_id": alice.project_id, "name": "digits", "model": "digits"})
    name = "endpoint:alice-project.digits"
    before, old_key = server.directory.version_of(name), resources.signer.key_id
    new_key = rotate_keys(resources.settings.keys_dir)
    until(lambda: resources.signer.key_id == new_key)
    publisher.sweep(resources)
    until(lambda: server.directory.version_of(name) > before)
    # The token was signed by the old key.
    assert alice.get("/projects").status_code == 200
    assert [key["kid"] for key in client.get("/api/v1/auth/jwks").json()["keys"]] == [new_key, old_key]
    rotate_keys(resources.settings.keys_dir)
    until(lambda: resources.signer.key_id != new_key)
    publisher.sweep(resources)
    with model_server(resources, "late") as late:
        assert set(late.directory.endpoints) == {"alice-project.digits"}
    until(lambda: alice.get("/projects").status_code == 401)
