import subprocess
from pathlib import Path

import pytest

from raymill.compute.preflight import COSTS, script, variables_in
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
