"""Programs behind a URL: TorchScript in an app of its own, from nothing and back, and a file that looks around."""

import json
import re
import secrets
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from programs import SIGNATURE, doubler, spy
from raymill.compute.cluster import Cluster, ServeApp
from raymill.compute.embedded.ray_head import EmbeddedRay
from raymill.kernel.settings import Settings
from raymill.sdk import Client, Conflict
from raymill.sdk.deployments import Deployment
from timing import until
from whole_platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SCALING = {"min_replicas": 0, "max_replicas": 1, "scale_to_zero_after_s": 4}
RESOURCES = {"cpus": 0.5}

# Deletes an application behind the platform's back, as an operator with Ray's own tools would.
DELETE = "import ray, sys; from ray import serve; ray.init(sys.argv[1]); serve.delete(sys.argv[2], _blocking=False)"


@pytest.fixture(scope="module")
def cluster(platform: Platform) -> Cluster:
    url = f"http://127.0.0.1:{platform.environment['RAYMILL_RAY__DASHBOARD_PORT']}"
    return Cluster(url, (platform.home / "ray" / "token").read_text().strip())


@pytest.fixture(scope="module")
def project(alice: Client) -> Any:
    return alice.projects.create("programs")


@pytest.fixture(scope="module")
def deployment(alice: Client, project: Any, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Twice the input, as TorchScript, with no replica until somebody asks."""
    model = alice.models.create(project_id=project.id, name="double")
    file = doubler(tmp_path_factory.mktemp("double") / "double.pt")
    alice.models.import_file(model.id, file, signature=SIGNATURE)
    with pytest.raises(Conflict, match="dedicated tier alone"):
        alice.deployments.deploy(project_id=project.id, name="pooled", model="double", tier="serverless")
    made = alice.deployments.deploy(
        project_id=project.id, name="double", model="double", resources=RESOURCES, scaling=SCALING
    )
    return alice.deployments.wait_until_ready(made.id, timeout_s=60)


@pytest.fixture(scope="module", autouse=True)
def broken(alice: Client, project: Any, deployment: Deployment) -> Deployment:
    """Bytes that are no model; its app fails while other tests run."""
    model = alice.models.create(project_id=project.id, name="broken")
    alice.models.import_file(model.id, b"no model at all", filename="broken.pt", signature=SIGNATURE)
    return alice.deployments.deploy(project_id=project.id, name="broken", model="broken", resources=RESOURCES)


def app_of(cluster: Cluster, deployment: Deployment) -> ServeApp | None:
    name = f"ep-{deployment.id}-r1"
    return next((app for app in cluster.serve_apps() if app.name == name), None)


def deployed_at(cluster: Cluster, name: str) -> float:
    apps = cluster.call("GET", "/api/serve/applications/")["applications"]
    return float(apps[name]["last_deployed_time_s"]) if name in apps else 0.0


def replica_pids(cluster: Cluster, deployment: Deployment) -> set[int]:
    app = cluster.call("GET", "/api/serve/applications/")["applications"][f"ep-{deployment.id}-r1"]
    return {replica["pid"] for replica in app["deployments"]["model"]["replicas"]}


TORCH = "raymill.serve_apps.libraries.torch"


def standing_by(platform: Platform) -> set[int]:
    """Return the processes that have no replica yet, and torch imported ahead of time."""
    found = set()
    for process in EmbeddedRay(Settings(home=platform.home)).find_processes():
        # One may end while it is looked at.
        with suppress(psutil.Error):
            if process.cmdline()[:1] == ["ray::IDLE"] and TORCH in process.environ().values():
                found.add(process.pid)
    return found


def ask(client: Client, name: str = "programs.double") -> list[Any]:
    return client.endpoints.predict(name, [[1.0, 2.0], [3.0, 4.0]]).predictions


def test_a_program_answers_by_its_own_app(alice: Client, cluster: Cluster, deployment: Deployment) -> None:
    app = app_of(cluster, deployment)
    assert app is not None
    assert app.route_prefix is None
    assert ask(alice) == [[2, 4], [6, 8]]
    begun = time.monotonic()
    for _ in range(20):
        assert ask(alice) == [[2, 4], [6, 8]]
    assert time.monotonic() - begun < 10
    until(lambda: alice.deployments.get(deployment.id).replicas == 1, within_s=10)


def secrets_of(home: Path) -> set[str]:
    """Return the platform's secrets: the passwords of its databases, what signs and seals, the token of its cluster."""
    files = [*(home / "keys").rglob("*"), home / "ray" / "token", *home.rglob("*password*")]
    lines = [line.strip() for file in files if file.is_file() for line in file.read_text(errors="replace").splitlines()]
    passwords = re.findall(r"://[^:]*:([^@]+)@", (home / "config.json").read_text())
    assert passwords
    return {line for line in lines if len(line) >= 16 and not line.startswith("-----")} | set(passwords)


def test_a_file_that_looks_around_sees_no_secret(platform: Platform, tmp_path: Path) -> None:
    report = platform.home / "spied.json"
    with Client(platform.url) as anonymous:
        login = anonymous.auth.register(
            email=f"sue-{secrets.token_hex(4)}@example.com", name="Sue", password="correct horse battery"
        )
    with Client(platform.url, login.access_token) as sue:
        project = sue.projects.create("spies")
        model = sue.models.create(project_id=project.id, name="spy")
        sue.models.import_file(model.id, spy(tmp_path / "spy.pt2", report), signature=SIGNATURE)
        made = sue.deployments.deploy(
            project_id=project.id, name="spy", model="spy", resources=RESOURCES, scaling=SCALING
        )
        sue.deployments.wait_until_ready(made.id, timeout_s=60)
        assert ask(sue, "spies.spy") == [[1, 2], [3, 4]]
        sue.deployments.delete(made.id)
    text = report.read_text()
    seen = json.loads(text)
    assert not [name for name in seen["environment"] if name.startswith(("RAYMILL_", "RAY_AUTH_"))]
    started = dict(entry.partition("=")[::2] for entry in seen["started_with"] if entry)
    assert not [name for name, value in started.items() if name.startswith("RAYMILL_") and value]
    known = secrets_of(platform.home) | {login.access_token, login.refresh_token}
    assert not [secret for secret in known if secret in text]
    assert not {"raymill.kernel.settings", "sqlalchemy", "redis", "raymill.serving.edge.access"} & set(seen["modules"])


def test_an_idle_app_costs_nothing_and_one_that_was_deleted_by_hand_comes_back(
    platform: Platform, alice: Client, cluster: Cluster, deployment: Deployment
) -> None:
    # It was asked last before the spy was.
    until(lambda: alice.deployments.get(deployment.id).replicas == 0, within_s=60, every_s=0.2)
    waiting = until(lambda: standing_by(platform), within_s=30, every_s=0.2)
    assert ask(alice) == [[2, 4], [6, 8]]
    # It woke in the process that had stood by, and another takes the place of that.
    assert replica_pids(cluster, deployment) <= waiting
    until(lambda: standing_by(platform) - waiting, within_s=30, every_s=0.2)
    address = f"127.0.0.1:{platform.environment['RAYMILL_RAY__GCS_PORT']}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(platform.home / "ray" / "token")}
    name = f"ep-{deployment.id}-r1"
    before = deployed_at(cluster, name)
    subprocess.run([sys.executable, "-c", DELETE, address, name], env=platform.environment | token, check=True)
    until(lambda: deployed_at(cluster, name) > before, within_s=60, every_s=0.1)
    assert ask(alice) == [[2, 4], [6, 8]]


def test_a_scaled_program_is_ready_with_its_replicas(alice: Client, deployment: Deployment) -> None:
    assert alice.deployments.scale(deployment.id, min_replicas=1).status == "deploying"
    *_, state = alice.deployments.events(deployment.id, seconds=60)
    assert (state["status"], state["replicas"]) == ("ready", 1)
    assert ask(alice) == [[2, 4], [6, 8]]


def test_a_file_that_cannot_be_loaded_says_why(alice: Client, broken: Deployment) -> None:
    found = until(lambda: (now := alice.deployments.get(broken.id)).status == "failed" and now, within_s=60)
    assert "torch cannot load the TorchScript file" in found.reason
    assert found.traffic == {}


def test_a_deleted_deployment_takes_its_app_along(alice: Client, cluster: Cluster, deployment: Deployment) -> None:
    alice.deployments.delete(deployment.id)
    until(lambda: app_of(cluster, deployment) is None, within_s=60, every_s=0.2)
