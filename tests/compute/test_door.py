"""The URL that a job is given, by what the cluster's dashboard says of its nodes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from raymill.compute.cluster import Cluster
from raymill.compute.door import job_api_url
from raymill.kernel.settings import HttpSettings, Settings


@contextmanager
def cluster(*nodes: tuple[str, str, bool]) -> Iterator[Cluster]:
    """A cluster of (address, state, is head) whose dashboard answers from here."""
    rows = [
        {"node_id": address, "node_ip": address, "state": state, "is_head_node": head, "resources_total": {}}
        for address, state, head in nodes
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        document: dict[str, Any] = {"data": {"result": {"result": rows}}}
        return httpx.Response(200, json=document)

    with Cluster("http://dashboard", None, transport=httpx.MockTransport(answer)) as connected:
        yield connected


@pytest.mark.parametrize(
    ("http", "nodes", "url"),
    [
        (HttpSettings(), [("127.0.0.2", "ALIVE", True)], "http://127.0.0.1:8000"),
        (HttpSettings(host="0.0.0.0", port=81), [("10.0.0.1", "ALIVE", True)], "http://127.0.0.1:81"),  # noqa: S104
        (
            HttpSettings(port=81),
            [("10.0.0.2", "ALIVE", False), ("10.0.0.1", "ALIVE", True)],
            "http://10.0.0.1:81",
        ),
        (HttpSettings(), [("10.0.0.2", "DEAD", False), ("10.0.0.1", "ALIVE", True)], "http://127.0.0.1:8000"),
        (HttpSettings(jobs_url="http://door.local/", public_url="https://ai"), [], "http://door.local"),
        (HttpSettings(public_url="https://ai.example.com/"), [], "https://ai.example.com"),
    ],
    ids=["our own head", "every interface", "several nodes", "a dead node", "a URL for jobs", "a public URL"],
)
def test_a_job_reaches_the_door(http: HttpSettings, nodes: list[tuple[str, str, bool]], url: str) -> None:
    with cluster(*nodes) as connected:
        assert job_api_url(Settings(http=http), connected) == url
