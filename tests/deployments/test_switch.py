"""Promote and rollback under load: four model servers follow within moments, and no request is lost."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx
import pytest

from factories import Tenant
from raymill.deployments import publisher
from raymill.kernel.resources import Resources
from raymill.serving.parts import Parts
from raymill.serving.server import ModelServer
from registry_makers import import_version, make_model

from .conftest import token, until

pytestmark = [pytest.mark.integration, pytest.mark.alone]

SERVERS, PERIOD_S = 4, 0.01
BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
SWITCHES, WITHIN_S = 5, 0.2


@dataclass
class Fleet:
    """Model servers under load; each answer with its moment, status and revision."""

    answers: list[tuple[float, int, str]] = field(default_factory=list)
    sent: int = 0
    is_loaded: bool = False
    stopping: bool = False

    async def run(self, resources: Resources, url: str, headers: dict[str, str]) -> None:
        """Serve, and once loaded send a request each period, however many are still on their way."""
        servers = [ModelServer(Parts.open(resources.settings)) for _ in range(SERVERS)]
        await asyncio.gather(*(server.start() for server in servers))
        clients = [
            httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://plane", headers=headers)
            for server in servers
        ]
        sent: set[asyncio.Task[None]] = set()
        while not self.stopping:
            if self.is_loaded:
                task = asyncio.create_task(self._ask(clients[self.sent % SERVERS], url))
                sent.add(task)
                task.add_done_callback(sent.discard)
                self.sent += 1
            await asyncio.sleep(PERIOD_S)
        await asyncio.gather(*sent)
        await asyncio.gather(*(client.aclose() for client in clients), *(server.stop() for server in servers))

    async def _ask(self, client: httpx.AsyncClient, url: str) -> None:
        answer = await client.post(url, json=BODY)
        self.answers.append((time.monotonic(), answer.status_code, answer.headers.get("x-raymill-revision", "")))

    def last_from(self, revision: str) -> float:
        """When the last answer came from a revision."""
        return max((moment for moment, _, found in list(self.answers) if found == revision), default=0.0)


@contextmanager
def fleet(resources: Resources, url: str, headers: dict[str, str]) -> Iterator[Fleet]:
    """Run the servers and the load in a thread until the block ends."""
    running = Fleet()
    thread = threading.Thread(target=lambda: asyncio.run(running.run(resources, url, headers)))
    thread.start()
    try:
        until(lambda: resources.cache.zcard("raymill:servers") == SERVERS, within_s=30)
        yield running
    finally:
        running.stopping = True
        thread.join()


def test_after_promote_and_rollback_answers_come_from_the_other_revision(alice: Tenant, resources: Resources) -> None:
    model_id = make_model(alice, "linear")
    import_version(alice, model_id)
    headers = {"Authorization": f"Bearer {token(alice)}"}
    with fleet(resources, "/v2/models/alice-project.linear/infer", headers) as running:
        body = {"project_id": alice.project_id, "name": "linear", "model": "linear"}
        path = f"/deployments/{alice.post('/deployments', json=body).json()['id']}"
        _settle(alice, path, resources)
        alice.patch(path, json={"promote": False})
        _settle(alice, path, resources)
        running.is_loaded = True
        until(lambda: running.last_from("1"))
        late = [_switch(alice, running, path, back=switch % 2 == 1) for switch in range(2 * SWITCHES)]
    assert median(late[0::2]) <= WITHIN_S, late
    assert median(late[1::2]) <= WITHIN_S, late
    assert {status for _, status, _ in running.answers} == {200}
    # One that raised has left no answer.
    assert len(running.answers) == running.sent


def _settle(tenant: Tenant, path: str, resources: Resources) -> None:
    def is_ready() -> bool:
        publisher.sweep(resources)
        status: str = tenant.get(f"{path}/status").json()["status"]
        return status == "ready"

    until(is_ready, within_s=30)


def _switch(tenant: Tenant, running: Fleet, path: str, *, back: bool) -> float:
    """Return for how many seconds after the answer the other revision still answered."""
    old, new = ("2", "1") if back else ("1", "2")
    answer: Any = tenant.post(f"{path}/rollback") if back else tenant.post(f"{path}/promote", json={})
    switched = time.monotonic()
    assert answer.json()["traffic"] == {new: 100}, answer.text
    seen = len(running.answers)
    until(lambda: len(running.answers) >= seen + 40)
    return max(0.0, running.last_from(old) - switched)
