"""Declaring the applications while the dashboard comes and goes."""

from collections.abc import Callable

import httpx
import pytest

from raymill.compute import serve_config
from raymill.compute.cluster import Cluster, ClusterUnreachable, ServeConfigRefused

CONFIG = {"applications": [{"name": "api"}]}
RUNNING = {"applications": {"api": {"status": "RUNNING", "message": "", "route_prefix": "/", "deployments": {}}}}


def dashboard(*firsts: Callable[[httpx.Request], httpx.Response]) -> Cluster:
    """Return a cluster whose dashboard answers so at first, and well from then on."""
    left = list(firsts)

    def answer(request: httpx.Request) -> httpx.Response:
        return left.pop(0)(request) if left else httpx.Response(200, json=RUNNING)

    return Cluster("http://dashboard", None, transport=httpx.MockTransport(answer))


def drops(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)


def fails(_: httpx.Request) -> httpx.Response:
    return httpx.Response(500, text="the module restarts")


def accepts(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200)


def test_a_dashboard_that_drops_a_request_is_asked_again() -> None:
    with dashboard(drops, fails, accepts, drops) as cluster:
        [app] = serve_config.deploy(cluster, CONFIG, timeout_s=10)
    assert app.name == "api"


def test_a_dashboard_that_stays_silent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_config, "SILENCE_S", 0.5)
    with (
        dashboard(*[drops] * 100) as cluster,
        pytest.raises(ClusterUnreachable, match="http://dashboard does not answer"),
    ):
        serve_config.deploy(cluster, CONFIG, timeout_s=10)


def test_a_configuration_that_serve_refuses_is_not_tried_again() -> None:
    with (
        dashboard(lambda _: httpx.Response(400, text="no such field"), drops) as cluster,
        pytest.raises(ServeConfigRefused, match="no such field"),
    ):
        serve_config.deploy(cluster, CONFIG, timeout_s=10)
