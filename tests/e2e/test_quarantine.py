"""Models that eat memory or do not end, deployed: the reason is shown, and nobody else notices."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any

import httpx
import pytest

from onnx_makers import ENDLESS, glutton_onnx, linear_onnx, rounds_onnx
from raymill.sdk import Client
from raymill.sdk.deployments import Deployment
from timing import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def ask_until(stop: Event, url: str, headers: dict[str, str]) -> Counter[Any]:
    """Ask a neighbour a hundred times a second and count what it answers."""
    answers: Counter[Any] = Counter()
    with httpx.Client(headers=headers, timeout=10) as client:
        while not stop.wait(0.01):
            answer = client.post(f"{url}/predict", json={"instances": [[3.0]]})
            answers[answer.text if answer.status_code == 200 else answer.status_code] += 1
    return answers


@contextmanager
def neighbour(deployment: Deployment, headers: dict[str, str]) -> Iterator[None]:
    """Let somebody ask while the block runs, and see all of it answered."""
    stop = Event()
    with ThreadPoolExecutor(1) as threads:
        answers = threads.submit(ask_until, stop, deployment.endpoint, headers)
        try:
            yield
        finally:
            stop.set()
    assert answers.result() == {'{"predictions":[[6.0]]}': answers.result().total()}
    assert answers.result().total() > 20


def deployed(alice: Client, project: str, name: str, content: bytes) -> Deployment:
    model = alice.models.create(project_id=project, name=name)
    alice.models.import_onnx(model.id, content, filename=f"{name}.onnx")
    deployment = alice.deployments.deploy(project_id=project, name=name, model=name)
    return alice.deployments.wait_until_ready(deployment.id, timeout_s=60)


def test_a_glutton_gets_no_traffic_and_its_neighbours_are_answered(alice: Client) -> None:
    project = alice.projects.create("gluttons")
    deployment = deployed(alice, project.id, "thing", linear_onnx(1, 1, 2.0))
    model = alice.models.from_name("thing", project_id=project.id)
    key = alice.api_keys.create(name="neighbour", project_id=project.id).key or ""

    def refused() -> Deployment | None:
        found = alice.deployments.get(deployment.id)
        return found if found.status == "degraded" else None

    with neighbour(deployment, {"X-API-Key": key}):
        eater = alice.models.import_onnx(model.id, glutton_onnx(16), filename="glutton.onnx")
        alice.deployments.update(deployment.id, version=eater.version)
        after = until(refused, within_s=60)
    assert "quarantined" in str(after.reason)


def test_who_leaves_a_run_that_does_not_end_frees_its_thread(alice: Client) -> None:
    project = alice.projects.create("runaways")
    double = deployed(alice, project.id, "thing", linear_onnx(1, 1, 2.0))
    rounds = deployed(alice, project.id, "rounds", rounds_onnx())
    headers = {"X-API-Key": alice.api_keys.create(name="leaver", project_id=project.id).key or ""}

    def count(rounds_: int, patience_s: float) -> Any:
        tensor = {"name": "n", "datatype": "INT64", "shape": [1], "data": [rounds_]}
        url = f"{rounds.endpoint}/infer"
        answer = httpx.post(url, json={"inputs": [tensor]}, headers=headers, timeout=patience_s)
        return answer.raise_for_status().json()["outputs"][0]["data"]

    with neighbour(double, headers):
        # More than any machine of ours has cores to lose.
        for _ in range((os.cpu_count() or 1) + 2):
            with suppress(httpx.ReadTimeout):
                count(ENDLESS, 0.5)
        assert count(3, 15) == [3]
