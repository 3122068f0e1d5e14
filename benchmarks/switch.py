"""How long answers of the other revision go on coming after `promote` or `rollback` has answered.

    python benchmarks/switch.py

A platform with four model servers, under load that does not wait for answers. Each promote and rollback is timed from
its answer to the last answer of the revision that lost the traffic. Any answer but 200 fails the run, and so does any
process of the data plane that was replaced.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serving"))

import onnx_models
import yaml
from load import BenchmarkFailed
from machine import described, write
from own_platform import APPS, OwnPlatform, predict_url, running_platform

from open_load import Prediction, open_load
from raymill.compute.embedded.ray_head import EmbeddedRay
from raymill.kernel.settings import Settings
from raymill.sdk import Client
from raymill.sdk.credentials import StoredCredential
from raymill.sdk.deployments import Deployment

SERVERS, PER_SECOND, SWITCHES = 4, 300.0, 20
FLOOR_MS, AIM_MS = 200.0, 50.0
# Between two switches, so that no late answer is taken for one of the next.
PAUSE_S = 1.0


@dataclass(frozen=True)
class Switch:
    """One change of the traffic: when it was asked for and answered (monotonic clock), and which revision lost."""

    what: str
    asked: float
    answered: float
    loser: str


@dataclass(frozen=True)
class Lag:
    """How long answers of the revision that lost the traffic went on."""

    what: str
    since_asked_ms: float
    since_answer_ms: float
    answer_ms: float


def main() -> None:
    """Run the benchmark; exit with 1 when it is not worth anything, with 2 when the floor is missed."""
    try:
        with tempfile.TemporaryDirectory(prefix="rm-bench-") as folder:
            apps = _four_servers(Path(folder) / "apps.yaml")
            with running_platform(apps=apps) as platform:
                document = _run(platform, Path(folder))
    except BenchmarkFailed as failure:
        sys.exit(str(failure))
    write("switch", document, _table(document))
    if not document["met"]:
        sys.exit(2)


def _four_servers(path: Path) -> Path:
    declared = yaml.safe_load(APPS.read_text())
    next(app for app in declared["applications"] if app["name"] == "inference")["args"]["num_replicas"] = SERVERS
    path.write_text(yaml.safe_dump(declared))
    return path


def _run(platform: OwnPlatform, folder: Path) -> dict[str, Any]:
    login = StoredCredential(platform.home)
    with platform.client() as client:
        deployment = _two_revisions(client, folder)
        before = _data_plane(platform)
        with open_load(
            predict_url(login, deployment),
            headers=login.headers(),
            body={"instances": [[2.0]]},
            per_second=PER_SECOND,
        ) as load:
            switches = [_switch(client, deployment, number) for number in range(SWITCHES)]
    if failures := load.failures():
        raise BenchmarkFailed(f"{len(failures)} of {len(load.predictions)} answers were not 200: {failures[0]}")
    if (after := _data_plane(platform)) != before:
        raise BenchmarkFailed(f"Processes of the data plane were replaced: {before} before, {after} after.")
    lags = [asdict(lag) for lag in _lags(switches, load.predictions)]
    middle = median(lag["since_answer_ms"] for lag in lags)
    return {
        "machine": described(),
        "lags": lags,
        "load": load.figures(),
        "median_ms": middle,
        "met": middle <= FLOOR_MS,
    }


def _two_revisions(client: Client, folder: Path) -> Deployment:
    """Deploy a model, and a second version of it that has no traffic yet."""
    project = client.projects.create("switch").id
    model = client.models.create(project_id=project, name="scale")
    for factor in (2.0, 3.0):
        client.models.import_file(model.id, onnx_models.scale(folder / f"{factor}.onnx", factor))
    made = client.deployments.deploy(project_id=project, name="scale", model="scale", version=1)
    client.deployments.wait_until_ready(made.id, timeout_s=120)
    client.deployments.update(made.id, version=2, promote=False)
    return client.deployments.wait_until_ready(made.id, timeout_s=120)


def _switch(client: Client, deployment: Deployment, number: int) -> Switch:
    what, loser = ("rollback", "2") if number % 2 else ("promote", "1")
    asked = time.monotonic()
    if what == "promote":
        client.deployments.promote(deployment.id, 2)
    else:
        client.deployments.rollback(deployment.id)
    done = Switch(what, asked, time.monotonic(), loser)
    client.deployments.wait_until_ready(deployment.id)
    time.sleep(PAUSE_S)
    return done


def _data_plane(platform: OwnPlatform) -> set[int]:
    """Return the ids of the model servers' processes and HAProxy's."""
    everything = EmbeddedRay(Settings(home=platform.home)).find_processes()
    titles = {one.pid: " ".join(one.cmdline()[:1]) for one in everything}
    found = {pid for pid, title in titles.items() if title.startswith("ray::ServeReplica:inference:")}
    if len(found) != SERVERS:
        raise BenchmarkFailed(f"Found {len(found)} model servers, not {SERVERS}.")
    return found | {pid for pid, title in titles.items() if Path(title).name == "haproxy"}


def _lags(switches: list[Switch], predictions: list[Prediction]) -> Iterator[Lag]:
    """Yield of each switch how long answers of the loser came, from when it was asked for and from its answer."""
    for switch, following in pairwise([*switches, None]):
        if switch is None:
            continue
        until = following.asked if following else float("inf")
        theirs = [one for one in predictions if switch.asked < one.answered < until]
        if all(one.revision == switch.loser for one in theirs):
            raise BenchmarkFailed(f"After a {switch.what} no answer came of the other revision.")
        last = max((one.answered for one in theirs if one.revision == switch.loser), default=switch.asked)
        yield Lag(
            switch.what,
            since_asked_ms=1000 * (last - switch.asked),
            since_answer_ms=1000 * max(0.0, last - switch.answered),
            answer_ms=1000 * (switch.answered - switch.asked),
        )


def _table(document: dict[str, Any]) -> str:
    columns = ("since_answer_ms", "since_asked_ms", "answer_ms")
    heads = (
        "after its answer, median ms",
        "least",
        "most",
        "after the request, median ms",
        "its answer took, median ms",
    )
    lines = [f"| last answer of the other revision | times | {' | '.join(heads)} |", "|---|" + "---:|" * 6]
    for what in ("promote", "rollback"):
        some = [lag for lag in document["lags"] if lag["what"] == what]
        after, asked, took = ([lag[column] for lag in some] for column in columns)
        figures = (median(after), min(after), max(after), median(asked), median(took))
        lines.append(f"| {what} | {len(some)} | " + " | ".join(f"{figure:.0f}" for figure in figures) + " |")
    verdict = "met" if document["met"] else "MISSED"
    reached = "reached" if document["median_ms"] <= AIM_MS else "not reached"
    lines.append(
        f"\nmedian of all: {document['median_ms']:.0f} ms, floor {FLOOR_MS:g} ms {verdict}, aim {AIM_MS:g} ms {reached}"
    )
    figures = ", ".join(f"{name} {value:,.1f}" for name, value in document["load"].items())
    return "\n".join([*lines, f"the load meanwhile, {PER_SECOND:g} requests/s on {SERVERS} model servers: {figures}"])


if __name__ == "__main__":
    main()
