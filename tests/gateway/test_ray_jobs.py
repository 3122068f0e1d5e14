"""The jobs door, opened by Ray's own client."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from fastapi.testclient import TestClient
from ray.job_submission import JobStatus, JobSubmissionClient
from sqlmodel import select

from factories import Tenant
from raymill.kernel.resources import Resources
from raymill.train import service
from raymill.train.models import TrainingJob
from raymill.train.schemas import FailureType, TrainingError
from raymill.train.schemas import JobStatus as State

pytestmark = pytest.mark.integration

Door = Callable[..., JobSubmissionClient]


def key_of(tenant: Tenant, *permissions: str) -> str:
    body = {"name": "door", "project_id": tenant.project_id, "permissions": list(permissions) or ["*"]}
    key: str = tenant.post("/api-keys", json=body).json()["key"]
    return key


@pytest.fixture
def door(platform_url: str) -> Door:
    """Return a maker of Ray's clients."""

    def open_door(credential: str, **headers: str) -> JobSubmissionClient:
        address = f"{platform_url}/api/v1/jobs"
        return JobSubmissionClient(address, headers={"Authorization": f"Bearer {credential}"} | headers)

    return open_door


@pytest.fixture
def ray_client(door: Door, alice: Tenant) -> JobSubmissionClient:
    """Return Ray's client with a key of alice's project."""
    return door(key_of(alice))


def write(resources: Resources, name: str, whole: str) -> None:
    """Store what a job has written, as the controller does."""
    with resources.session() as session:
        job = session.exec(select(TrainingJob).where(TrainingJob.submission_id == name)).one()
        service.append_log(session, job, whole)


def end(resources: Resources, name: str, status: State, error: TrainingError | None = None) -> None:
    """End a job, as the controller does."""
    with resources.session() as session:
        job = session.exec(select(TrainingJob).where(TrainingJob.submission_id == name)).one()
        service.end_job(session, job, status=status, error=error)


async def tail(client: JobSubmissionClient, name: str, seen: Callable[[str], None] = lambda _: None) -> str:
    """Follow a job's output until its end."""
    whole = ""
    async for piece in client.tail_job_logs(name):
        whole += piece
        seen(whole)
    return whole


def test_a_program_is_submitted_and_shown(ray_client: JobSubmissionClient, alice: Tenant) -> None:
    name = ray_client.submit_job(
        entrypoint="python -c 'print(1)'",
        runtime_env={"env_vars": {"TOKEN": "secret"}, "pip": ["six"]},
        metadata={"owner": "ann", "job_name": "one"},
        entrypoint_num_cpus=0.5,
    )
    details = ray_client.get_job_info(name)
    assert (details.status, details.entrypoint) == (JobStatus.PENDING, "python -c 'print(1)'")
    assert details.metadata == {"owner": "ann", "job_name": "one"}
    assert details.runtime_env is not None
    assert details.runtime_env["env_vars"] == {"TOKEN": "<redacted>"}
    assert [job.submission_id for job in ray_client.list_jobs()] == [name]
    job = alice.get(f"/training-jobs/{name}").json()
    assert (job["name"], job["status"], job["model_id"]) == ("one", "pending", None)
    assert job["config"]["resources"]["entrypoint_num_cpus"] == 0.5
    assert "secret" not in str(job)
    run = alice.get(f"/runs/{job['run_id']}").json()
    assert (run["name"], run["status"]) == ("one", "running")
    assert run["parameters"]["entrypoint"] == "python -c 'print(1)'"


def test_a_submission_id_is_kept_and_taken_once(ray_client: JobSubmissionClient, door: Door, bob: Tenant) -> None:
    assert ray_client.submit_job(entrypoint="true", submission_id="nightly-7") == "nightly-7"
    assert ray_client.get_job_status("nightly-7") == JobStatus.PENDING
    with pytest.raises(RuntimeError, match=r"409.*nightly-7.*exists already"):
        ray_client.submit_job(entrypoint="true", submission_id="nightly-7")
    assert door(key_of(bob)).submit_job(entrypoint="true", submission_id="nightly-7") == "nightly-7"


def test_a_job_is_stopped_and_deleted(ray_client: JobSubmissionClient) -> None:
    name = ray_client.submit_job(entrypoint="sleep 60")
    with pytest.raises(RuntimeError, match="409"):
        ray_client.delete_job(name)
    assert ray_client.stop_job(name) is True
    assert ray_client.get_job_status(name) == JobStatus.STOPPED
    assert ray_client.stop_job(name) is False
    assert ray_client.delete_job(name) is True
    with pytest.raises(RuntimeError, match="404"):
        ray_client.get_job_info(name)


def test_a_failed_job_says_why(ray_client: JobSubmissionClient, resources: Resources) -> None:
    ray_client.submit_job(entrypoint="false", submission_id="bad")
    end(resources, "bad", State.FAILED, TrainingError(type=FailureType.DRIVER_FAILED, message="ValueError: no"))
    details = ray_client.get_job_info("bad")
    assert (details.status, details.message, details.error_type) == (
        JobStatus.FAILED,
        "ValueError: no",
        "DRIVER_FAILED",
    )
    assert details.end_time is not None


def test_a_folder_is_uploaded_once_and_goes_by_its_content(
    ray_client: JobSubmissionClient, door: Door, alice: Tenant, bob: Tenant, resources: Resources, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.py").write_text("print(1)")
    name = ray_client.submit_job(entrypoint="python main.py", runtime_env={"working_dir": str(code)})
    config = alice.get(f"/training-jobs/{name}").json()["config"]
    uri = config["runtime_env"]["working_dir"]
    [(stored_uri, blob)] = config["packages"].items()
    assert stored_uri == uri
    with resources.store.open(blob) as file:
        assert file.read(2) == b"PK"
    assert blob.rsplit("/", 1)[-1] in uri
    again = ray_client.submit_job(entrypoint="python main.py", runtime_env={"working_dir": str(code)})
    assert alice.get(f"/training-jobs/{again}").json()["config"]["packages"] == config["packages"]
    with pytest.raises(RuntimeError, match=r"404.*upload it first"):
        door(key_of(bob)).submit_job(entrypoint="true", runtime_env={"working_dir": "gcs://_ray_pkg_0123.zip"})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"runtime_env": {"image_uri": "docker.io/evil"}}, "image_uri"),
    ({"runtime_env": {"worker_process_setup_hook": "evil.hook"}}, "worker_process_setup_hook"),
    ({"runtime_env": {"env_vars": {"RAYMILL_API_KEY": "x"}}}, "RAYMILL_API_KEY"),
    ({"runtime_env": {"working_dir": "https://example.com/x.zip"}}, "example.com"),
    ({"entrypoint_num_cpus": 200}, "200 CPUs"),
    ({"entrypoint_resources": {"node:__internal_head__": 0.1}}, "node:__internal_head__"),
    ({"entrypoint_label_selector": {"zone": "a"}}, "entrypoint_label_selector"),
    ({"submission_id": "job_mine"}, "job_"),
    ({"submission_id": "../x"}, "submission_id"),
]


def test_what_a_project_may_not_have_is_refused(ray_client: JobSubmissionClient) -> None:
    for asked, named in REFUSED:
        with pytest.raises(RuntimeError, match=rf"(?s)422.*VALIDATION_ERROR.*{named}"):
            ray_client.submit_job(entrypoint="true", **asked)
    assert ray_client.list_jobs() == []


def test_a_strangers_job_is_not_found(ray_client: JobSubmissionClient, door: Door, bob: Tenant) -> None:
    name = ray_client.submit_job(entrypoint="true")
    stranger = door(key_of(bob))
    assert stranger.list_jobs() == []
    calls = [stranger.get_job_info, stranger.get_job_logs, stranger.stop_job, stranger.delete_job]
    for call in calls:
        with pytest.raises(RuntimeError, match="404"):
            call(name)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        asyncio.run(tail(stranger, name))
    assert refused.value.status == 404


def test_an_account_names_its_project(door: Door, alice: Tenant, bob: Tenant) -> None:
    token = alice.tokens["access_token"]
    name = door(token).submit_job(entrypoint="true")
    second = alice.post("/projects", json={"name": "second"}).json()
    with pytest.raises(RuntimeError, match=r"422.*several projects.*X-Raymill-Project"):
        door(token).list_jobs()
    for named in (alice.project_id, "alice-project"):
        assert [job.submission_id for job in door(token, **{"X-Raymill-Project": named}).list_jobs()] == [name]
    assert door(token, **{"X-Raymill-Project": second["id"]}).list_jobs() == []
    with pytest.raises(RuntimeError, match="404"):
        door(token, **{"X-Raymill-Project": bob.project_id}).list_jobs()
    with pytest.raises(RuntimeError, match="404"):
        door(key_of(alice), **{"X-Raymill-Project": second["id"]}).list_jobs()


def test_a_key_needs_the_rights_that_its_program_gets(door: Door, alice: Tenant) -> None:
    reader = door(key_of(alice, "job:read"))
    assert reader.list_jobs() == []
    for permissions in (["job:read"], ["job:read", "job:write"]):
        with pytest.raises(Exception, match="AUTHORIZATION_ERROR"):
            door(key_of(alice, *permissions)).submit_job(entrypoint="true")


def test_nobody_enters_without_a_credential(door: Door, platform_url: str) -> None:
    with pytest.raises(Exception, match="AUTHENTICATION_ERROR"):
        door("rm_wrong")
    for method, path in [("GET", "version"), ("GET", "jobs/"), ("PUT", "packages/gcs/a.zip"), ("GET", "v0/nodes")]:
        answer = httpx.request(method, f"{platform_url}/api/v1/jobs/api/{path}", content=b"x")
        assert (answer.status_code, answer.json()["type"]) == (401, "AUTHENTICATION_ERROR"), path


CLOSED = [
    ("GET", "api/v0/nodes"),
    ("GET", "api/serve/applications/"),
    ("PUT", "api/serve/applications/"),
    ("DELETE", "api/serve/applications/"),
    ("PUT", "api/packages/http/evil.zip"),
    ("POST", "api/jobs/some/else"),
    ("GET", "logs"),
]


def test_the_rest_of_rays_interface_is_closed(alice: Tenant) -> None:
    for method, path in CLOSED:
        answer = alice.request(method, f"/jobs/{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "RESOURCE_NOT_FOUND"), answer.text
        assert path in answer.json()["message"]


def test_a_package_has_a_name_and_a_limit(
    client: TestClient, resources: Resources, alice: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alice.put("/jobs/api/packages/gcs/lib.whl", content=b"x").status_code == 422
    monkeypatch.setattr(resources.settings.http, "max_upload_bytes", 10)
    assert alice.put("/jobs/api/packages/gcs/a.zip", content=b"x" * 11).status_code == 413
    assert alice.get("/jobs/api/packages/gcs/a.zip").status_code == 404
    assert alice.put("/jobs/api/packages/gcs/a.zip", content=b"x" * 10).status_code == 200
    assert alice.get("/jobs/api/packages/gcs/a.zip").status_code == 200


def test_output_is_followed_to_its_end(ray_client: JobSubmissionClient, resources: Resources) -> None:
    ray_client.submit_job(entrypoint="true", submission_id="long")
    write(resources, "long", "one\n")
    # More than Ray's client takes in one message.
    rest = "two\n" + "é" * 3_000_000 + "\n"
    wrote = threading.Event()

    def seen(whole: str) -> None:
        if not wrote.is_set():
            wrote.set()
            write(resources, "long", "one\n" + rest)
            end(resources, "long", State.COMPLETED)

    assert asyncio.run(asyncio.wait_for(tail(ray_client, "long", seen), 20)) == "one\n" + rest
    assert ray_client.get_job_logs("long") == "one\n" + rest
    assert ray_client.get_job_status("long") == JobStatus.SUCCEEDED


def test_a_follower_whose_key_is_revoked_is_cut_off(door: Door, resources: Resources, alice: Tenant) -> None:
    body = {"name": "door", "project_id": alice.project_id, "permissions": ["*"]}
    key = alice.post("/api-keys", json=body).json()
    client = door(key["key"])
    client.submit_job(entrypoint="true", submission_id="followed")
    write(resources, "followed", "one\n")

    def seen(whole: str) -> None:
        assert alice.delete(f"/api-keys/{key['id']}").status_code == 204
        write(resources, "followed", "one\ntwo\n")

    assert asyncio.run(asyncio.wait_for(tail(client, "followed", seen), 20)) == "one\n"


def test_training_jobs_are_listed_too(ray_client: JobSubmissionClient, alice: Tenant, dataset_id: str) -> None:
    body = {
        "project_id": alice.project_id,
        "framework": "pytorch",
        "trainer": "tabular-classifier",
        "dataset": {"id": dataset_id},
        "model": {"name": "reader"},
        "hyperparameters": {"target": "kind"},
    }
    job = alice.post("/training-jobs", json=body)
    assert job.status_code == 202, job.text
    [details] = ray_client.list_jobs()
    assert details.submission_id == job.json()["id"]
    assert "raymill.train.driver" in details.entrypoint
    assert ray_client.stop_job(job.json()["id"]) is True
