"""Secrets: written by people, read by jobs, hidden from everybody else."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from factories import Tenant, make_tenant
from raymill.auth import keys
from raymill.auth.permissions import JOB_PERMISSIONS
from raymill.controller.cleanup import rewrap
from raymill.kernel.envelope import rotate_master_key
from raymill.kernel.resources import Resources
from raymill.projects.models import Secret
from raymill.sdk import Client, PermissionDenied
from raymill.train.models import TrainingJob
from raymill.train.programs import program_of

pytestmark = pytest.mark.integration

VALUE = "s3cr3t-of-alice"


def put(tenant: Tenant, name: str = "token", value: str = VALUE) -> dict[str, Any]:
    answer = tenant.put(f"/projects/{tenant.project_id}/secrets/{name}", json={"value": value})
    assert answer.status_code == 200, answer.text
    written: dict[str, Any] = answer.json()
    return written


def job_key(resources: Resources, tenant: Tenant) -> dict[str, str]:
    """Make a key such as a running job of the tenant's project holds."""
    with resources.session() as session:
        _, key = keys.create_key(
            session,
            name="job",
            project_id=tenant.project_id,
            permissions=sorted(JOB_PERMISSIONS),
            created_by=tenant.user_id,
            job_id="job_1",
        )
    return {"X-API-Key": key}


def submit(tenant: Tenant, **variables: str) -> Any:
    body = {"entrypoint": "python main.py", "runtime_env": {"env_vars": variables}}
    return tenant.post("/jobs/api/jobs/", json=body)


def test_a_value_goes_in_and_does_not_come_out(resources: Resources, alice: Tenant) -> None:
    where = f"/projects/{alice.project_id}/secrets"
    written = put(alice)
    assert (written["name"], written["created_by"]) == ("token", alice.user_id)
    again = put(alice, value="another")
    assert again["created_at"] == written["created_at"]
    for answer in (alice.get(where), alice.put(f"{where}/token", json={"value": VALUE})):
        assert VALUE not in answer.text
    assert [one["name"] for one in alice.get(where).json()["items"]] == ["token"]
    refused = alice.put(f"{where}/token", json={"value": "x" * 65_537})
    assert (refused.status_code, "xxx" in refused.text) == (422, False)
    with resources.session() as session:
        row = session.exec(select(Secret)).one()
    assert VALUE.encode() not in row.sealed + row.wrapped_key
    assert alice.delete(f"{where}/token").status_code == 204
    assert alice.delete(f"{where}/token").status_code == 404


def test_only_a_job_of_the_project_reads_a_value(
    resources: Resources, client: TestClient, alice: Tenant, bob: Tenant
) -> None:
    put(alice)
    where = f"/projects/{alice.project_id}/secrets/token/value"
    answer = client.get(f"/api/v1{where}", headers=job_key(resources, alice))
    assert (answer.json(), answer.headers["Cache-Control"]) == ({"value": VALUE}, "no-store")
    assert client.get(f"/api/v1{where}", headers=job_key(resources, bob)).status_code == 404
    assert bob.get(where).status_code == 404
    assert client.get(f"/api/v1{where}").status_code == 401
    key = alice.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    for headers in ({}, {"X-API-Key": key["key"], "Authorization": ""}):
        refused = alice.get(where, headers=headers)
        assert (refused.status_code, VALUE in refused.text) == (403, False)


def test_who_may_write_and_see_names(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    put(alice)
    where = f"/projects/{alice.project_id}/secrets"
    calls = [("GET", where, None), ("PUT", f"{where}/token", {"value": "x"}), ("DELETE", f"{where}/token", None)]
    for method, path, body in calls:
        assert client.request(method, f"/api/v1{path}", json=body).status_code == 401
        assert bob.request(method, path, json=body).status_code == 404
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "viewer"})
    for method, path, body in calls:
        refused = bob.request(method, path, json=body)
        assert (refused.status_code, refused.json()["details"]["permission"][:7]) == (403, "secret:")
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "developer"})
    assert [bob.request(method, path, json=body).status_code for method, path, body in calls] == [200, 200, 204]


@pytest.mark.parametrize("name", ["1st", "a.b", "a b", "x" * 65])
def test_bad_names_are_refused(alice: Tenant, name: str) -> None:
    answer = alice.put(f"/projects/{alice.project_id}/secrets/{name}", json={"value": "x"})
    assert (answer.status_code, answer.json()["type"]) == (422, "VALIDATION_ERROR")


def test_parallel_writers_leave_one_whole_secret(resources: Resources, client: TestClient, alice: Tenant) -> None:
    where = f"/projects/{alice.project_id}/secrets/token"
    with ThreadPoolExecutor(4) as pool:
        sent = pool.map(lambda n: alice.put(where, json={"value": f"value-{n}"}).status_code, range(4))
    assert set(sent) <= {200, 409}
    read = client.get(f"/api/v1{where}/value", headers=job_key(resources, alice))
    assert read.json()["value"].startswith("value-")


def test_a_replaced_master_key_is_not_needed_any_more(resources: Resources, client: TestClient, alice: Tenant) -> None:
    put(alice)
    folder = resources.settings.keys_dir
    rotate_master_key(folder)
    put(alice, "second", "under the new key")
    rewrap(resources)
    lines = (folder / "master.keys").read_text().splitlines()
    (folder / "master.keys").write_text(f"{lines[1]}\n")
    for name, value in (("token", VALUE), ("second", "under the new key")):
        where = f"/api/v1/projects/{alice.project_id}/secrets/{name}/value"
        assert client.get(where, headers=job_key(resources, alice)).json() == {"value": value}


def test_ray_is_given_references_and_never_values(resources: Resources, alice: Tenant) -> None:
    put(alice)
    missing = submit(alice, TOKEN="secret://nothing")
    assert (missing.status_code, "nothing" in missing.json()["message"]) == (404, True)
    answer = submit(alice, TOKEN="secret://token", PLAIN="plain")
    assert answer.status_code == 200, answer.text
    assert submit(alice, PLAIN="plain").status_code == 200
    with resources.session() as session:
        with_secret, without = (program_of(job) for job in session.exec(select(TrainingJob).order_by(TrainingJob.id)))
    assert with_secret.env_vars == {"TOKEN": "secret://token", "PLAIN": "plain"}
    assert with_secret.entrypoint.endswith(f"-m raymill.train.launcher {alice.project_id} 'python main.py'")
    assert without.entrypoint == "python main.py"
    assert VALUE not in repr(with_secret)


def test_the_program_finds_the_value_in_its_environment(
    resources: Resources, platform_url: str, client: TestClient
) -> None:
    ann = make_tenant(client, "ann")
    with Client(platform_url, ann.tokens["access_token"]) as library:
        library.secrets.put(ann.project_id, "token", VALUE)
        assert [one.name for one in library.secrets.list(ann.project_id)] == ["token"]
        with pytest.raises(PermissionDenied):
            library.secrets.value(ann.project_id, "token")
        done = launch(resources, ann, platform_url)
        assert (done.returncode, done.stdout) == (7, f"{VALUE} plain it's here\n"), done.stderr
        library.secrets.delete(ann.project_id, "token")
    failed = launch(resources, ann, platform_url)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "'token'" in failed.stderr


def launch(resources: Resources, tenant: Tenant, url: str) -> subprocess.CompletedProcess[str]:
    own = {"RAYMILL_API_URL": url, "RAYMILL_API_KEY": job_key(resources, tenant)["X-API-Key"]}
    environment = {**os.environ, **own, "TOKEN": "secret://token", "PLAIN": "plain"}
    command = 'echo $TOKEN $PLAIN "it\'s here"; exit 7'
    program = [sys.executable, "-P", "-m", "raymill.train.launcher", tenant.project_id, command]
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)
