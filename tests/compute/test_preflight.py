"""What a joined cluster's environment lacks, and the little job that finds out."""

import subprocess
from pathlib import Path

import httpx
import pytest

from raymill.compute.cluster import Cluster
from raymill.compute.preflight import COSTS, HeadNotAsked, lacks, script, variables_in
from raymill.compute.serve_environment import of_joined_cluster, serve_environment
from raymill.kernel.settings import Settings


def test_every_exported_variable_has_its_cost(tmp_path: Path) -> None:
    exported = serve_environment(of_joined_cluster(Settings(home=tmp_path)))
    assert not exported.keys() - COSTS.keys()


@pytest.mark.parametrize("configured", [True, False])
def test_the_head_names_what_it_sees_and_no_secret(tmp_path: Path, configured: bool) -> None:
    if configured:
        (tmp_path / "config.json").write_text("{}")
    environment = {
        "PATH": "/usr/bin:/bin",
        "RAYMILL_HOME": str(tmp_path),
        "RAYMILL_REDIS__URL": "redis://:secret@cache/0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "FORWARDED_ALLOW_IPS": "",
    }
    done = subprocess.run(
        ["bash", "-c", script(list(COSTS))], env=environment, capture_output=True, text=True, check=True
    )
    seen = variables_in(done.stdout)
    named = {"RAYMILL_HOME", "RAYMILL_REDIS__URL", "RAY_SERVE_ENABLE_HA_PROXY", "FORWARDED_ALLOW_IPS"}
    assert seen.keys() == named | ({"config.json"} if configured else set())
    assert seen["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert "secret" not in done.stdout


class Dashboard:
    """Ray's dashboard with one job, which stays in a state until it is stopped; Ray deletes no job that runs."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.jobs: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        *_, last = request.url.path.rstrip("/").split("/")
        if request.method == "POST" and last == "jobs":
            self.jobs.add("job")
        elif last == "stop" and self.status in {"PENDING", "RUNNING"}:
            self.status = "STOPPED"
        elif request.method == "DELETE":
            if self.status in {"PENDING", "RUNNING"}:
                return httpx.Response(400, text="it runs")
            self.jobs.clear()
        return httpx.Response(200, json={"status": self.status, "message": "no room", "logs": ""})


@pytest.mark.parametrize(("status", "said"), [("FAILED", "is FAILED: no room"), ("PENDING", "still PENDING")])
def test_a_head_that_cannot_be_asked_is_left_as_it_was(tmp_path: Path, status: str, said: str) -> None:
    dashboard = Dashboard(status)
    with (
        Cluster("http://ray", None, transport=httpx.MockTransport(dashboard)) as cluster,
        pytest.raises(HeadNotAsked, match=said),
    ):
        lacks(Settings(home=tmp_path), cluster, within_s=0)
    assert not dashboard.jobs
