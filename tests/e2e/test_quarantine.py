"""An artifact that eats memory, deployed: the old revision stays, the reason is shown, nobody else notices."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import pytest

from onnx_makers import glutton_onnx, linear_onnx
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


def test_a_glutton_gets_no_traffic_and_its_neighbours_are_answered(alice: Client) -> None:
    project = alice.projects.create("gluttons")
    model = alice.models.create(project_id=project.id, name="thing")
    alice.models.import_onnx(model.id, linear_onnx(1, 1, 2.0), filename="double.onnx")
    deployment = alice.deployments.deploy(project_id=project.id, name="thing", model="thing")
    deployment = alice.deployments.wait_until_ready(deployment.id, timeout_s=60)
    key = alice.api_keys.create(name="neighbour", project_id=project.id).key or ""
    stop = Event()
    with ThreadPoolExecutor(1) as neighbour:
        answers = neighbour.submit(ask_until, stop, deployment.endpoint, {"X-API-Key": key})
        try:
            eater = alice.models.import_onnx(model.id, glutton_onnx(16), filename="glutton.onnx")
            alice.deployments.update(deployment.id, version=eater.version)

            def refused() -> Deployment | None:
                found = alice.deployments.get(deployment.id)
                return found if found.status == "degraded" else None

            after = until(refused, within_s=60)
        finally:
            stop.set()
    assert "quarantined" in str(after.reason)
    assert answers.result() == {'{"predictions":[[6.0]]}': answers.result().total()}
    assert answers.result().total() > 20
