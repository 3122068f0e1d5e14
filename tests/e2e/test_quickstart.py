"""The user's own file, and the user's own ONNX file, by the commands alone."""

import json
import shlex
import subprocess
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest

from onnx_makers import linear_onnx
from timing import until
from whole_platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def visits(rows: int = 240) -> str:
    """Return a CSV of texts, gaps, an id, a constant column and dates, divided by semicolons, with a BOM."""
    rng = np.random.default_rng(5)
    lines = ["\ufeffid;city;size;age;when;same;member;kind"]
    for number in range(rows):
        size, city = rng.uniform(0, 10), rng.choice(["Köln", "Wien", "Bern", ""])
        age = rng.choice(["", str(rng.integers(18, 90))])
        day = date(2024, 1, 1) + timedelta(days=int(rng.integers(0, 300)))
        kind = "Größe L" if size > 5 else "Größe S"
        written = f"{size:.3f}".replace(".", ",")
        lines.append(f"u-{number};{city};{written};{age};{day};x;{rng.choice(['true', 'false'])};{kind}")
    return "\n".join(lines) + "\n"


def test_a_file_of_the_users_becomes_an_endpoint(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "My Visits.csv"
    file.write_text(visits())
    shown = platform.command("quickstart", str(file), "--target", "kind", "--project", "own-file").stdout
    assert "Left out: 'id'" in shown
    assert "Left out: 'same'" in shown
    predicted = next(line for line in shown.splitlines() if "held-out rows, accuracy" in line)
    assert float(predicted.split("accuracy ")[1].split()[0]) >= 0.85
    command = shlex.split(shown.splitlines()[-1])
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
    assert sum(answer["predictions"][0]) == pytest.approx(1, abs=1e-5)
    _check_rows(command)


def _check_rows(command: list[str]) -> None:
    """Ask the endpoint of the printed command for other rows: gaps, and what it must refuse by name."""
    url = next(word for word in command if word.startswith("http"))
    key = command[command.index("-d") - 1].removeprefix("X-API-Key: ")
    (row,) = json.loads(command[-1])["instances"]

    def ask(changed: dict[str, object]) -> httpx.Response:
        return httpx.post(url, json={"instances": [row | changed]}, headers={"X-API-Key": key})

    assert ask({"age": None, "city": None}).status_code == 200
    assert ask({"city": "Atlantis", "when": "2030-05-01T10:00:00+02:00"}).status_code == 200
    for changed, named in [
        ({"size": None}, "'size'"),
        ({"size": "much"}, "'size'"),
        ({"when": "soon"}, "'when'"),
        ({"colour": "red"}, "'colour'"),
    ]:
        refused = ask(changed)
        assert (refused.status_code, named in refused.json()["message"]) == (422, True), refused.text


def test_what_cannot_be_learned_is_refused_before_a_job_starts(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "three.csv"
    file.write_text("a,b\n1,x\n2,y\n3,x\n")
    for target, said in [("b", "has 3 rows; to learn 'b'"), ("c", "'c' is not in the dataset")]:
        done = platform.command("quickstart", str(file), "--target", target, "--project", "own-file", check=False)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert said in done.stderr
    with platform.admin() as client:
        project = client.projects.from_name("own-file")
        assert [job for job in client.training_jobs.list(project_id=project.id) if job.status != "completed"] == []


def test_an_onnx_file_of_the_users_is_served_with_two_commands(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "mine.onnx"
    for fill, answered in [(1.0, [[3.0, 3.0, 3.0]]), (2.0, [[6.0, 6.0, 6.0]])]:
        file.write_bytes(linear_onnx(fill=fill))
        assert "x FP32 [-1, 2]" in platform.command("models", "import", str(file), "--project", "own-onnx").stdout
        assert "/own-onnx.mine/predict" in platform.command("deploy", "mine", "--project", "own-onnx").stdout
        with platform.admin() as client:
            prediction = client.endpoints.predict("own-onnx.mine", [[1.0, 2.0]])
            assert prediction.predictions == answered
    request, ours = prediction.request_id or "", ("--project", "own-onnx")
    platform.command("predictions", "rate", "mine", request, *ours, "--label", "red", "--value", "0.5")
    with platform.admin() as client:
        project = client.projects.from_name("own-onnx")
        [served] = client.deployments.list(project_id=project.id)
        until(lambda: list(client.deployments.feedback(served.id)), within_s=30, what="the feedback is kept")
        [said] = client.deployments.feedback(served.id, request_id=request)
        assert (said.label, said.value) == ("red", 0.5)
        rows = partial(client.deployments.log, served.id, request_id=request)
        [logged] = until(lambda: list(rows()), within_s=30, what="the row is kept")
        assert (logged.status, logged.revision) == (200, prediction.revision)
    assert "own-onnx.mine" in platform.command("deployments", "list", "--project", "own-onnx").stdout
    assert "mine" in platform.command("models", "list", "--project", "own-onnx").stdout
