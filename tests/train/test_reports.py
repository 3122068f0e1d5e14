"""A job that reports too often, or to a platform that is away, goes on training."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from raymill.sdk import PermissionDenied
from raymill.train import driver

BODY = '{"type": "%s", "message": "no", "details": {}, "request_id": "r", "timestamp": "2026-01-01T00:00:00Z"}'


class Door(HTTPServer):
    """Refuses every report, and counts them."""

    status, kind, asked = 429, "RATE_LIMIT_EXCEEDED", 0


class Refusal(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Door)
        self.server.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = (BODY % self.server.kind).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    server = Door(("127.0.0.1", 0), Refusal)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("RAYMILL_API_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("RAYMILL_API_KEY", "rm_key")
    driver.platform.cache_clear()
    yield server
    driver.platform.cache_clear()
    server.shutdown()
    server.server_close()


def test_too_many_reports_do_not_end_a_job(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    driver.report_epoch("job_1", 3, 2, {"loss": 0.5})
    assert door.asked == 4
    assert "epoch 2 was not reported" in capsys.readouterr().out


def test_a_report_that_may_not_be_made_does(door: Door) -> None:
    door.status, door.kind = 403, "AUTHORIZATION_ERROR"
    with pytest.raises(PermissionDenied):
        driver.report_epoch("job_1", 3, 2, {"loss": 0.5})
    assert door.asked == 1
