"""The platform on a cluster that somebody else started with the variables of `raymill env --exports`."""

import re
from collections.abc import Iterator

import httpx
import pytest

from foreign_cluster import ForeignCluster, foreign_cluster, guide_block
from servers import platform_environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ForeignCluster]:
    """One node behind HAProxy."""
    with foreign_cluster() as running:
        home = running.folder / "node-0"
        ports = {name: value for name, value in platform_environment(home).items() if name.startswith("RAYMILL_HTTP__")}
        running.environment |= ports | {"RAYMILL_HOME": str(home), "RAYMILL_HTTP__PORT": str(running.ports["http"])}
        running.start_head(guide_block("raymill env --exports"), "--num-cpus=2")
        running.open_door()
        running.shell(guide_block("serve deploy").splitlines()[-1])
        running.await_apps()
        running.log_in()
        yield running


def test_the_demo_passes(cluster: ForeignCluster) -> None:
    shown = cluster.shell(guide_block("raymill demo").splitlines()[-1])
    assert float(re.search(r"accuracy (0\.\d+)\s", shown.split("predict")[-1])[1]) >= 0.95  # type: ignore[index]


def test_haproxy_answers_behind_the_wrapper(cluster: ForeignCluster) -> None:
    assert any(process.name() == "haproxy" for process in cluster.processes())
    answer = httpx.get(f"{cluster.url}/-/routes", headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.json()["request_id"]) == (404, "mine")


def test_nothing_is_missing(cluster: ForeignCluster) -> None:
    assert cluster.status()["missing"] == []
