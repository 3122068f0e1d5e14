"""What a client meets at the door: the real HAProxy, started by Ray Serve through the wrapper.

Buys what no fake can show: Serve's own configuration, its buffering, its cancellation and its failover.
"""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from edge_cluster import EdgeCluster, until

pytestmark = pytest.mark.ray

MB = 2**20
SHAPE = {"type", "message", "details", "request_id", "timestamp"}


@pytest.fixture
def client(edge_cluster: EdgeCluster) -> Iterator[httpx.Client]:
    """A client that keeps its connection."""
    with httpx.Client(base_url=edge_cluster.url, timeout=30) as client:
        yield client


def connect(cluster: EdgeCluster) -> socket.socket:
    parts = urlsplit(cluster.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def in_shape(response: httpx.Response, status: int, type_: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    body: dict[str, Any] = response.json()
    assert set(body) >= SHAPE
    assert body["type"] == type_
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def kill_replica(client: httpx.Client) -> int:
    pid: int = client.get("/narrow/who").json()["pid"]
    psutil.Process(pid).kill()
    return pid


def test_the_app_sees_the_true_client(edge_cluster: EdgeCluster) -> None:
    with closing(connect(edge_cluster)) as connection:
        connection.sendall(b"GET /api/who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert json.load(answer)["client"] == list(connection.getsockname())


@pytest.mark.parametrize(
    "forged",
    [
        {"X-Forwarded-For": "6.6.6.6"},
        {"X-Raymill-Peer": "[6.6.6.6]:1"},
        {"X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Forwarded-Proto": "https"},
    ],
)
def test_a_forged_address_is_ignored(client: httpx.Client, forged: dict[str, str]) -> None:
    seen = client.get("/api/who", headers=forged).json()
    assert seen["client"][0] == "127.0.0.1"
    assert not {name.lower() for name in forged} & {name for name, _ in seen["headers"]}


def test_a_request_id_is_taken_or_made_and_returned_once(client: httpx.Client) -> None:
    taken = client.get("/api/who", headers={"X-Request-ID": "mine-1"})
    assert taken.headers.get_list("x-request-id") == ["mine-1"] == [taken.json()["request_id"]]
    made = client.get("/api/who", headers={"X-Request-ID": "not {harmless}"})
    assert made.headers["x-request-id"] == made.json()["request_id"] != "not {harmless}"


@pytest.mark.parametrize("path", ["/-/routes", "/%2D/routes", "/nothing/here"])
def test_routes_and_unknown_paths_are_refused_in_json(client: httpx.Client, path: str) -> None:
    body = in_shape(client.get(path), 404, "RESOURCE_NOT_FOUND")
    assert "edge" not in json.dumps(body)


def test_an_error_on_a_v2_path_carries_the_protocols_member(client: httpx.Client) -> None:
    # No app has it here: its replicas may come.
    assert in_shape(client.get("/v2/models/a.b"), 503, "EXTERNAL_SERVICE_ERROR")["error"]


def test_internal_ports_listen_on_loopback_only(edge_cluster: EdgeCluster) -> None:
    http_settings = edge_cluster.settings.http
    expected = {http_settings.port, http_settings.stats_port, http_settings.metrics_port, http_settings.fallback_port}
    listening = {
        (connection.laddr.port, connection.laddr.ip)
        for process in edge_cluster.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    first, last = http_settings.replica_ports
    internal = {(port, ip) for port, ip in listening if port in expected or first <= port <= last}
    assert {port for port, _ in internal} >= expected
    assert len(internal) >= len(expected) + 2
    assert {ip for _, ip in internal} == {"127.0.0.1"}


def test_an_app_that_fails_answers_500_without_its_secrets(client: httpx.Client) -> None:
    body = in_shape(client.get("/api/crash"), 500, "INTERNAL_SERVER_ERROR")
    assert "planted" not in json.dumps(body)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_100_mb_is_refused(client: httpx.Client, chunked: bool) -> None:
    body = iter([bytes(MB)] * 100) if chunked else bytes(100 * MB)
    in_shape(client.put("/api/other", content=body), 413, "VALIDATION_ERROR")
    assert client.get("/api/who").is_success


def test_a_refused_body_is_not_asked_for(edge_cluster: EdgeCluster) -> None:
    with closing(connect(edge_cluster)) as connection:
        connection.sendall(
            b"PUT /api/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99000000\r\n\r\n"
        )
        assert connection.recv(20).startswith(b"HTTP/1.1 413")


def test_a_slow_upload_is_not_buffered(client: httpx.Client) -> None:
    content = iter([bytes(MB)] * 200)
    answer = client.put("/api/v1/datasets/d/versions?pause=0.001", content=content, timeout=60).json()
    assert answer["bytes"] == 200 * MB
    assert answer["grown"] < 50 * MB


def test_a_slow_download_is_not_buffered(client: httpx.Client) -> None:
    size, tail = 0, b""
    with client.stream("GET", "/api/download") as answer:
        for piece in answer.iter_bytes(MB):
            size, tail = size + len(piece), piece
            time.sleep(0.003)
    assert size > 500 * MB
    assert json.loads(tail[tail.index(b"{") :])["grown"] < 50 * MB


def test_events_arrive_one_by_one(client: httpx.Client) -> None:
    with client.stream("GET", "/api/events") as answer:
        arrivals = [time.monotonic() for _ in answer.iter_lines() if _]
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    assert len(gaps) == 4
    assert min(gaps) > 0.15


def hang_up(cluster: EdgeCluster, client: httpx.Client, path: str, headers: str = "") -> None:
    before = client.get("/api/who").json()["cancelled"]
    with closing(connect(cluster)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        until(lambda: client.get("/api/who").json()["running"] == 1)
    until(lambda: client.get("/api/who").json()["cancelled"] == before + 1)
    assert client.get("/api/who").json()["running"] == 0


def test_a_client_that_hangs_up_cancels_the_app(edge_cluster: EdgeCluster, client: httpx.Client) -> None:
    hang_up(edge_cluster, client, "/api/hang")


def test_a_client_cannot_switch_cancellation_off(edge_cluster: EdgeCluster, client: httpx.Client) -> None:
    hang_up(edge_cluster, client, "/api/hang", "x-request-disconnect-disabled: ?1\r\nx-request-timeout-seconds: 0\r\n")
    seen = client.get("/api/who", headers={"x-request-disconnect-disabled": "?1"}).json()
    assert "x-request-disconnect-disabled" not in dict(seen["headers"])


def test_a_client_that_hangs_up_frees_its_slot(edge_cluster: EdgeCluster, client: httpx.Client) -> None:
    with closing(connect(edge_cluster)) as holder, closing(connect(edge_cluster)) as waiter:
        for connection in (holder, waiter):
            connection.sendall(b"GET /narrow/hang HTTP/1.1\r\nHost: x\r\n\r\n")
        refusal = until(lambda: _if_refused(client))
        in_shape(refusal, 503, "EXTERNAL_SERVICE_ERROR")
        assert refusal.headers["retry-after"]
    until(lambda: client.get("/narrow/who").is_success)


def _if_refused(client: httpx.Client) -> httpx.Response | None:
    try:
        answer = client.get("/narrow/who", timeout=0.5)
    except httpx.TimeoutException:
        return None
    return None if answer.is_success else answer


def test_a_missing_replica_waits_or_answers_in_shape(client: httpx.Client) -> None:
    killed = kill_replica(client)
    answers = []

    def back() -> bool:
        answers.append(client.get("/narrow/who"))
        return answers[-1].is_success

    until(back, 30)
    assert answers[-1].json()["pid"] != killed
    for answer in answers[:-1]:
        assert in_shape(answer, answer.status_code, "EXTERNAL_SERVICE_ERROR")
        assert answer.status_code in (502, 503)


def test_a_kept_connection_is_never_cut_when_a_replica_dies(edge_cluster: EdgeCluster) -> None:
    """A reload ends kept connections, but only by announcing it with an answer: anything else raises here."""
    parts = urlsplit(edge_cluster.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    killed, deadline, seen = 0, time.monotonic() + 30, {}
    while not killed or seen.get("pid") in (killed, None):
        assert time.monotonic() < deadline
        connection.request("GET", "/narrow/who")
        answer = connection.getresponse()
        body = json.load(answer)
        assert answer.status == 200 or body["type"] == "EXTERNAL_SERVICE_ERROR"
        seen = body if answer.status == 200 else {}
        if not killed and seen:
            killed = seen["pid"]
            psutil.Process(killed).kill()
        time.sleep(0.02)


def test_a_dead_proxy_is_replaced_within_seconds(edge_cluster: EdgeCluster) -> None:
    killed = edge_cluster.haproxies()
    for process in killed:
        process.kill()
    until(lambda: _answers(edge_cluster.url), 10)
    assert not set(killed) & set(edge_cluster.haproxies())


def _answers(url: str) -> bool:
    return httpx.get(f"{url}/api/who", timeout=5).is_success
