"""A dedicated deployment (TorchScript) beside Ray Serve on the same cluster: woken from nothing, and under load.

    python benchmarks/dedicated.py [cold | warm]

cold: an app of each that has no replica is asked once, in turns, at rest.
warm: the users' own URL against an ingress with a model behind it, called by handle.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import httpx
import psutil
import torch
from load import BenchmarkFailed, Target, require_wrk
from machine import described, write
from own_platform import OwnPlatform, predict_url, running_platform
from rounds import Round, System, alternate, cells, company, heading, measure, spread

from raymill.compute.cluster import Cluster
from raymill.compute.embedded.ray_head import EmbeddedRay
from raymill.kernel.settings import Settings
from raymill.sdk.credentials import StoredCredential

COLD_ROUNDS, WARM_ROUNDS, LOAD_S = 5, 5, 5
FLOORS = {"cold": 1.0, "warm": 0.9}
FEATURES, CLASSES, CPUS = 64, 10, 0.5
SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, CLASSES]}],
}
BODY = {"instances": [[0.1] * FEATURES]}
SLEEPS_AFTER_S = 2.0
# As the platform sets it for an app of its own.
ONGOING = 32
ASLEEP = {
    "max_ongoing_requests": ONGOING,
    "autoscaling_config": {
        "min_replicas": 0,
        "max_replicas": 1,
        "target_ongoing_requests": 2.0,
        "upscale_delay_s": 3.0,
        "look_back_period_s": 12.0,
        "downscale_delay_s": 30.0,
        "downscale_to_zero_delay_s": SLEEPS_AFTER_S,
    },
}
AWAKE = {"num_replicas": 1, "max_ongoing_requests": ONGOING}
ASLEEP_WITHIN_S, ANSWER_WITHIN_S, QUIET_WITHIN_S = 90.0, 120.0, 15.0
# Of all CPUs, in a second; the platform at rest uses a tenth.
QUIET_SHARE = 0.25
OURS, THEIRS = "raymill", "ray serve"


@dataclass(frozen=True)
class Bench:
    """A running platform with a TorchScript file, and how to put Ray Serve's own apps beside it."""

    platform: OwnPlatform
    login: StoredCredential
    folder: Path
    model: Path

    def bare(self, scaling: dict[str, Any], kind: str, name: str) -> str:
        """Deploy an app of Ray Serve's own and return its URL."""
        settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.platform.home / "ray" / "token")}
        address = f"127.0.0.1:{self.platform.environment['RAYMILL_RAY__GCS_PORT']}"
        script = Path(__file__).with_name("bare_serve.py")
        done = subprocess.run(
            [sys.executable, script, address, self.model, json.dumps(scaling), kind, name],
            env=self.platform.environment | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchmarkFailed(f"Ray Serve's own app was not deployed: {done.stderr[-1500:]}")
        return f"{self.login.base_url}/{name}"

    def own(self, name: str, scaling: dict[str, Any]) -> tuple[str, str]:
        """Deploy the model on the platform and return its URL and the name of its app."""
        with self.platform.client() as client:
            project = client.projects.create(name)
            model = client.models.create(project_id=project.id, name=name)
            client.models.import_file(model.id, self.model, signature=SIGNATURE)
            made = client.deployments.deploy(
                project_id=project.id, name=name, model=name, resources={"cpus": CPUS}, scaling=scaling
            )
            ready = client.deployments.wait_until_ready(made.id, timeout_s=120)
        return predict_url(self.login, ready), f"ep-{ready.id}-r1"

    def replicas(self, app: str) -> list[dict[str, Any]]:
        """Return an app's replicas as Serve tells of them."""
        url = f"http://127.0.0.1:{self.platform.environment['RAYMILL_RAY__DASHBOARD_PORT']}"
        with Cluster(url, (self.platform.home / "ray" / "token").read_text().strip()) as cluster:
            found = cluster.call("GET", "/api/serve/applications/")["applications"][app]["deployments"]
        return [replica for deployment in found.values() for replica in deployment["replicas"]]


def main() -> None:
    """Run the benchmark; exit with 1 when it is not worth anything, with 2 when a floor is missed."""
    wanted = sys.argv[1:] or list(FLOORS)
    missed = False
    try:
        require_wrk()
        with running_platform() as platform, tempfile.TemporaryDirectory(prefix="rm-bench-") as folder:
            bench = Bench(platform, StoredCredential(platform.home), Path(folder), _model(Path(folder)))
            for what in wanted:
                missed |= {"cold": cold, "warm": warm}[what](bench)
    except BenchmarkFailed as failure:
        sys.exit(str(failure))
    if missed:
        sys.exit(2)


def _model(folder: Path) -> Path:
    network = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, 32), torch.nn.ReLU(), torch.nn.Linear(32, CLASSES), torch.nn.Softmax(dim=1)
    )
    torch.jit.save(torch.jit.script(network), folder / "model.pt")
    return folder / "model.pt"


def cold(bench: Bench) -> bool:
    """Wake sleeping apps in turns; return whether the floor is missed."""
    scaling = {"min_replicas": 0, "max_replicas": 1, "scale_to_zero_after_s": SLEEPS_AFTER_S}
    url, app = bench.own("sleeper", scaling)
    apps = {OURS: (url, app), THEIRS: (bench.bare(ASLEEP, "sleeper", "old"), "old")}
    with httpx.Client(headers=bench.login.headers(), timeout=ANSWER_WITHIN_S) as http:
        _wake(bench, http, *apps[THEIRS])
        took: dict[str, list[float]] = {name: [] for name in apps}
        for number in range(COLD_ROUNDS):
            # Always in this order: one falls asleep while the other is asked.
            for system in apps:
                took[system].append(_wake(bench, http, *apps[system]))
                print(f"round {number + 1} of {COLD_ROUNDS}  {system:10} {took[system][-1]:6.2f} s", flush=True)
    ratio = median(took[OURS]) / median(took[THEIRS])
    missed = ratio > FLOORS["cold"]
    lines = ["| first answer of a sleeping app | median s | least | most |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {median(s):.2f} | {min(s):.2f} | {max(s):.2f} |" for name, s in took.items()]
    lines += ["", _verdict("cold", "raymill / Ray Serve", ratio, missed, aim="0.5")]
    write("dedicated_cold", {"machine": described(), "seconds": took, "ratio": ratio}, "\n".join(lines))
    return missed


def _wake(bench: Bench, http: httpx.Client, url: str, app: str) -> float:
    """Ask an app once it has no replica and the machine is at rest; return the seconds to its answer."""
    _until(lambda: not bench.replicas(app), ASLEEP_WITHIN_S, f"{app} still has replicas")
    quiet_by = time.monotonic() + QUIET_WITHIN_S
    while psutil.cpu_percent(interval=1.0) > 100 * QUIET_SHARE and time.monotonic() < quiet_by:
        pass
    begun = time.perf_counter()
    answer = http.post(url, json=BODY)
    took = time.perf_counter() - begun
    if answer.status_code != 200:
        raise BenchmarkFailed(f"{url} answers {answer.status_code}: {answer.text[:500]}")
    if len(bench.replicas(app)) != 1:
        raise BenchmarkFailed(f"{app} answered and has {len(bench.replicas(app))} replicas.")
    return took


def _until(check: Callable[[], bool], within_s: float, complaint: str) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{complaint} after {within_s:g} s.")
        time.sleep(0.3)


def warm(bench: Bench) -> bool:
    """Load both in turns; return whether the floor is missed."""
    url, app = bench.own("awake", {"min_replicas": 1, "max_replicas": 1})
    pair = bench.bare(AWAKE, "pair", "pair")
    body, credential = bench.folder / "body.json", bench.folder / "credential"
    body.write_text(json.dumps(BODY))
    credential.write_text(bench.login.headers()["Authorization"])
    systems = [
        System(OURS, "", Target(url, body, credential), _processes(bench, "inference", app)),
        System(THEIRS, "", Target(pair, body, credential), _processes(bench, "pair")),
    ]
    # A new app makes Serve replace HAProxy, whose predecessor ends a while later: its CPU time could not be told then.
    _until(lambda: sum(one.name() == "haproxy" for one in systems[0].processes()) == 1, 150, "Two HAProxies run")
    for system in systems:
        measure(system, 2)
    rounds = alternate(systems, rounds=WARM_ROUNDS, seconds=LOAD_S)
    return _judge_warm(rounds)


def _processes(bench: Bench, *apps: str) -> Callable[[], list[psutil.Process]]:
    """Return the processes of the apps' replicas and of HAProxy."""

    def find() -> list[psutil.Process]:
        pids = {int(replica["pid"]) for app in apps for replica in bench.replicas(app)}
        everything = EmbeddedRay(Settings(home=bench.platform.home)).find_processes()
        return [one for one in everything if one.pid in pids or one.name() == "haproxy"]

    return find


def _judge_warm(rounds: list[Round]) -> bool:
    by_system = {name: [one for one in rounds if one.system == name] for name in (OURS, THEIRS)}
    figures = {name: spread(some) for name, some in by_system.items()}
    ratio = figures[OURS]["requests/s"]["median"] / figures[THEIRS]["requests/s"]["median"]
    missed = ratio < FLOORS["warm"]
    lines = heading() + [f"| {name} | {cells(figure)} |" for name, figure in figures.items()]
    lines += ["", _verdict("warm", "raymill / Ray Serve's pair", ratio, missed, aim="1.0")]
    lines += company([one.other_cpus for one in rounds])
    write("dedicated_warm", {"machine": described(), "systems": figures, "ratio": ratio}, "\n".join(lines))
    return missed


def _verdict(what: str, of: str, ratio: float, missed: bool, *, aim: str) -> str:
    return f"{of}: {ratio:.2f}, floor {FLOORS[what]}: {'MISSED' if missed else 'met'}; aim {aim}"


if __name__ == "__main__":
    main()
