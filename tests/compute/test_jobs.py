"""The Ray Jobs client against a server that speaks the dashboard's protocol."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from raymill.compute.cluster import Cluster, ClusterUnreachable
from raymill.compute.isolation import blanked_environment
from raymill.compute.jobs import JobRefused, JobState, JobSubmission, RayJobs

TOKEN = "secret"


class Dashboard(BaseHTTPRequestHandler):
    """Ray 2.60's `/api/jobs/`, as its job_head.py answers."""

    jobs: dict[str, dict[str, Any]]
    packages: dict[str, bytes]

    def do_PUT(self) -> None:
        self.packages[self.path] = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer("")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._is_stranger():
            return
        if self.path.endswith("/stop"):
            self.jobs[self.path.split("/")[3]]["status"] = "STOPPED"
            self._answer({"stopped": True})
            return
        asked = json.loads(body)
        if self.path.endswith("/become"):
            self.jobs[self.path.split("/")[3]].update(asked)
            self._answer({})
            return
        if asked["submission_id"] in self.jobs:
            self._answer(f"ValueError: Job with submission_id {asked['submission_id']} already exists.", 400)
            return
        if asked["entrypoint"] == "":
            self._answer("TypeError: entrypoint must be a string", 400)
            return
        self.jobs[asked["submission_id"]] = asked | {"status": "PENDING", "message": None}
        self._answer({"submission_id": asked["submission_id"]})

    def do_GET(self) -> None:
        if self._is_stranger():
            return
        if self.path.startswith("/api/packages/"):
            self._answer("", 200 if self.path in self.packages else 404)
        elif self.path.endswith("/logs"):
            self._answer({"logs": "line\n"})
        else:
            self._answer([*self.jobs.values(), {"submission_id": None, "status": "RUNNING", "message": ""}])

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""

    def _is_stranger(self) -> bool:
        known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if not known:
            self._answer("Unauthorized: Missing authentication token", 401)
        return not known

    def _answer(self, body: Any, status: int = 200) -> None:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def dashboard() -> Iterator[str]:
    """Return the URL of a dashboard without jobs."""
    handler = type("Fresh", (Dashboard,), {"jobs": {}, "packages": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def jobs(dashboard: str) -> Iterator[RayJobs]:
    """Return a client with the right token."""
    with Cluster(dashboard, TOKEN) as cluster:
        yield RayJobs(cluster)


def submission(job_id: str = "job_1", entrypoint: str = "true") -> JobSubmission:
    return JobSubmission(
        id=job_id, entrypoint=entrypoint, env_vars={"KEY": "v"}, num_cpus=1.0, num_gpus=0.0, metadata={"a": "b"}
    )


def test_a_job_is_submitted_seen_and_stopped(jobs: RayJobs) -> None:
    jobs.submit(submission())
    assert jobs.statuses() == {"job_1": "PENDING"}
    assert jobs.logs("job_1") == "line\n"
    jobs.stop("job_1")
    assert jobs.statuses() == {"job_1": "STOPPED"}


def test_submitting_again_leaves_the_job_as_it_is(jobs: RayJobs) -> None:
    jobs.submit(submission())
    jobs.submit(submission(entrypoint="false"))
    assert jobs.statuses() == {"job_1": "PENDING"}


def test_a_refused_submission_is_an_error(jobs: RayJobs) -> None:
    with pytest.raises(JobRefused, match="entrypoint must be"):
        jobs.submit(submission(entrypoint=""))


def test_a_failed_job_says_how_it_ended(jobs: RayJobs, dashboard: str) -> None:
    jobs.submit(submission())
    with Cluster(dashboard, TOKEN) as cluster:
        ended = {"status": "FAILED", "message": "killed", "driver_exit_code": -9, "end_time": 2_500}
        cluster.call("POST", "/api/jobs/job_1/become", json=ended)
    assert jobs.states() == {"job_1": JobState("FAILED", "killed", exit_code=-9, ended_at=2.5)}


def test_a_package_is_put_where_a_runtime_environment_finds_it(jobs: RayJobs, dashboard: str, tmp_path: Path) -> None:
    file = tmp_path / "package.zip"
    file.write_bytes(b"zip")
    jobs.put_package("gcs://_ray_pkg_1.zip", file)
    with Cluster(dashboard, TOKEN) as cluster:
        assert cluster.send("GET", "/api/packages/gcs/_ray_pkg_1.zip").is_success
        assert cluster.send("GET", "/api/packages/gcs/_ray_pkg_2.zip").status_code == 404


def test_a_wrong_token_is_said_plainly(dashboard: str) -> None:
    with Cluster(dashboard, "wrong") as cluster, pytest.raises(ClusterUnreachable, match="refuses our token"):
        RayJobs(cluster).statuses()


def test_nobody_there_is_an_error() -> None:
    with Cluster("http://127.0.0.1:9", TOKEN) as cluster, pytest.raises(ClusterUnreachable, match="does not answer"):
        RayJobs(cluster).submit(submission())


def test_the_key_of_a_job_is_not_shown_in_logs() -> None:
    assert "KEY" not in repr(submission())


def test_secrets_of_the_platform_are_blanked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMILL_SOMETHING_NEW", "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    blanked = blanked_environment()
    assert set(blanked.values()) == {""}
    assert {
        "RAYMILL_DATABASE__URL",
        "RAYMILL_REDIS__URL",
        "RAYMILL_CONFIG_FILE",
        "RAYMILL_HOME",
        "RAYMILL_SOMETHING_NEW",
        "AWS_SECRET_ACCESS_KEY",
    } <= blanked.keys()
    assert "PATH" not in blanked
