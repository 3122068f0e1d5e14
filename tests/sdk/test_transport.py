"""Retries, errors and files, against a transport that answers by a script."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from raymill.kernel.errors import ErrorType, error_body
from raymill.sdk import (
    AuthenticationFailed,
    Client,
    Conflict,
    ConnectionLost,
    ExternalServiceError,
    InternalError,
    NotFound,
    PermissionDenied,
    RateLimited,
    RaymillError,
    Retries,
    ValidationFailed,
    WaitTimeout,
)
from raymill.sdk.transport import FixedCredential, Transport

Answer = httpx.Response | Exception


def refusal(status: int, type_: ErrorType, headers: dict[str, str] | None = None) -> httpx.Response:
    body = error_body(type_, "no", request_id="req_1", details={"field": "x"})
    return httpx.Response(status, json=body, headers=headers)


UNAVAILABLE = (503, ErrorType.EXTERNAL_SERVICE_ERROR)
PROJECT = {"id": "prj_1", "name": "one", "description": "", "created_at": "2026-01-01T00:00:00Z"}


class Script:
    """Answers each request with the next answer; the last one is repeated."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(request.read())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **options: Any) -> Client:
        retries = Retries(sleep=self.pauses.append)
        return Client("http://raymill/", "token", retries=retries, transport=httpx.MockTransport(self), **options)

    def transport(self) -> Transport:
        retries = Retries(sleep=self.pauses.append)
        return Transport("http://raymill", FixedCredential(), retries=retries, transport=httpx.MockTransport(self))


@pytest.mark.parametrize(
    ("status", "type_", "expected"),
    [
        (422, ErrorType.VALIDATION_ERROR, ValidationFailed),
        (400, ErrorType.VALIDATION_ERROR, ValidationFailed),
        (401, ErrorType.AUTHENTICATION_ERROR, AuthenticationFailed),
        (403, ErrorType.AUTHORIZATION_ERROR, PermissionDenied),
        (404, ErrorType.RESOURCE_NOT_FOUND, NotFound),
        (409, ErrorType.RESOURCE_CONFLICT, Conflict),
        (429, ErrorType.RATE_LIMIT_EXCEEDED, RateLimited),
        (503, ErrorType.EXTERNAL_SERVICE_ERROR, ExternalServiceError),
        (500, ErrorType.INTERNAL_SERVER_ERROR, InternalError),
    ],
)
def test_each_error_type_raises_its_class(status: int, type_: ErrorType, expected: type[RaymillError]) -> None:
    with pytest.raises(expected) as caught:
        Script(refusal(status, type_)).client().projects.get("prj_1")
    error = caught.value
    assert (error.message, error.status, error.details, error.request_id) == ("no", status, {"field": "x"}, "req_1")


@pytest.mark.parametrize("answer", [httpx.Response(502, text="Bad Gateway"), httpx.Response(404, json=["?"])])
def test_an_answer_of_somebody_else_is_a_lost_connection(answer: httpx.Response) -> None:
    with pytest.raises(ConnectionLost, match=f"HTTP {answer.status_code}"):
        Script(answer).client().projects.get("prj_1")


@pytest.mark.parametrize(
    "failure", [refusal(*UNAVAILABLE), httpx.Response(502), httpx.ReadTimeout("slow"), httpx.ConnectError("nobody")]
)
def test_what_is_safe_to_repeat_is_repeated(failure: Answer) -> None:
    script = Script(failure, failure, httpx.Response(200, json=PROJECT))
    assert script.client().projects.get("prj_1").name == "one"
    # Twice as long each time, give or take a half.
    first, second = script.pauses
    assert 0.1 <= first <= 0.3
    assert 0.2 <= second <= 0.6


def test_attempts_come_to_an_end() -> None:
    script = Script(httpx.ReadTimeout("slow"))
    with pytest.raises(ConnectionLost, match="slow"):
        script.client().projects.get("prj_1")
    assert len(script.requests) == 4


def test_a_post_without_a_key_is_not_repeated_once_it_was_sent() -> None:
    script = Script(httpx.ReadTimeout("slow"))
    with pytest.raises(ConnectionLost):
        script.client().training_jobs.cancel("job_1")
    assert len(script.requests) == 1


def test_a_post_that_never_left_is_repeated() -> None:
    script = Script(httpx.ConnectError("nobody"), httpx.Response(204))
    script.client().auth.logout()
    assert len(script.requests) == 2


def test_work_is_started_once_with_a_key_of_its_own() -> None:
    made = httpx.Response(201, json=PROJECT)
    script = Script(httpx.ReadTimeout("slow"), made, made)
    script.client().projects.create("one")
    script.client().projects.create("one")
    first, again, other = (request.headers["Idempotency-Key"] for request in script.requests)
    assert first == again != other


def test_the_platform_says_how_long_to_wait() -> None:
    limited = refusal(429, ErrorType.RATE_LIMIT_EXCEEDED, {"Retry-After": "3"})
    script = Script(limited, limited, httpx.Response(204))
    script.client().auth.logout()
    assert all(pause >= 3 for pause in script.pauses)


def test_a_refusal_is_final() -> None:
    script = Script(refusal(409, ErrorType.RESOURCE_CONFLICT))
    with pytest.raises(Conflict):
        script.client().projects.delete("prj_1")
    assert len(script.requests) == 1


def test_a_file_is_sent_whole_each_time(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"w" * 100_000)
    script = Script(httpx.ReadTimeout("slow"), httpx.Response(200, json={}))
    script.client().models.put_artifact("mdl_1", 2, "deep/weights 1.bin", path, type="weights")
    assert script.bodies == [path.read_bytes()] * 2
    assert (
        script.requests[0].url.raw_path
        == b"/api/v1/models/mdl_1/versions/2/artifacts/deep/weights%201.bin?type=weights"
    )
    assert script.requests[0].headers["Content-Length"] == "100000"


def test_a_download_is_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        def pieces() -> Any:
            yield b"half"
            raise httpx.ReadError("gone")

        return httpx.Response(200, content=pieces())

    target = tmp_path / "data.parquet"
    transport = Transport(
        "http://raymill", FixedCredential(), retries=Retries(1), transport=httpx.MockTransport(broken)
    )
    with pytest.raises(ConnectionLost):
        transport.download("/x", target)
    assert list(tmp_path.iterdir()) == []
    script = Script(refusal(*UNAVAILABLE), httpx.Response(200, content=b"whole"))
    script.transport().download("/x", target)
    assert [path.name for path in tmp_path.iterdir()] == ["data.parquet"]
    assert target.read_bytes() == b"whole"


def test_lists_are_walked_page_by_page() -> None:
    pages = [{"items": [PROJECT], "next_cursor": "c1"}, {"items": [PROJECT, PROJECT], "next_cursor": None}]
    script = Script(*(httpx.Response(200, json=page) for page in pages))
    assert len(list(script.client().datasets._transport.items("/list", {"project_id": "prj_1", "name": None}))) == 3
    assert [dict(request.url.params) for request in script.requests] == [
        {"project_id": "prj_1"},
        {"project_id": "prj_1", "cursor": "c1"},
    ]


@pytest.mark.parametrize(
    ("make", "header", "value"),
    [
        (lambda script: script.client(), "Authorization", "Bearer token"),
        (lambda script: script.client(api_key="rm_1"), "X-API-Key", "rm_1"),
        (lambda script: script.client(request_id="req_9"), "X-Request-ID", "req_9"),
    ],
)
def test_login_and_request_id_go_with_every_call(make: Callable[[Script], Client], header: str, value: str) -> None:
    script = Script(httpx.Response(200, json=PROJECT))
    make(script).projects.get("prj_1")
    assert script.requests[0].headers[header] == value


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("digits.reader", "/v2/models/digits.reader/predict"),
        ("/v2/models/digits.reader", "/v2/models/digits.reader/predict"),
        ("https://elsewhere.example/v2/models/digits.reader/", "/v2/models/digits.reader/predict"),
    ],
)
def test_predictions_stay_on_the_platform(endpoint: str, path: str) -> None:
    named = {"X-Request-ID": "req_1", "X-Raymill-Revision": "3"}
    answered = httpx.Response(200, json={"predictions": [[0.1, 0.9]]}, headers=named)
    script = Script(httpx.ReadTimeout("slow"), answered)
    prediction = script.client().endpoints.predict(endpoint, [[1.0]])
    assert (prediction.predictions, prediction.request_id, prediction.revision) == ([[0.1, 0.9]], "req_1", 3)
    assert str(script.requests[1].url) == f"http://raymill{path}"
    assert json.loads(script.bodies[1]) == {"instances": [[1.0]]}


def test_waiting_ends_when_the_job_does_or_the_time_is_up() -> None:
    job: dict[str, Any] = {
        "id": "job_1",
        "project_id": "prj_1",
        "name": "n",
        "status": "running",
        "model_id": "mdl_1",
        "config": {},
        "progress": {"percent": 0, "epoch": 0, "total_epochs": 1},
        "metrics": {},
        "logs": [],
        "model_version_id": None,
        "error": None,
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": None,
        "completed_at": None,
    }
    states = ["pending", "running", "completed"]
    script = Script(*(httpx.Response(200, json=job | {"status": state}) for state in states))
    seen: list[str] = []
    ended = script.client().training_jobs.wait("job_1", poll_s=0, watch=lambda found: seen.append(found.status))
    assert (ended.has_ended, seen) == (True, states)
    stuck = Script(httpx.Response(200, json=job))
    with pytest.raises(WaitTimeout, match="running"):
        stuck.client().training_jobs.wait("job_1", timeout_s=0, poll_s=0)
