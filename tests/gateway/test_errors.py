"""One error shape for every failure of the control plane."""

import errno
import os

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from factories import Tenant
from raymill.kernel.deps import DbSession
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration

_SHAPE = {"type", "message", "details", "request_id", "timestamp"}


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "type_"),
    [
        ("GET", "/api/v1/nothing", None, 404, "RESOURCE_NOT_FOUND"),
        ("PATCH", "/api/v1/auth/login", None, 405, "VALIDATION_ERROR"),
        ("POST", "/api/v1/auth/login", "{", 400, "VALIDATION_ERROR"),
        ("POST", "/api/v1/auth/login", "{}", 422, "VALIDATION_ERROR"),
        ("GET", "/api/v1/projects", None, 401, "AUTHENTICATION_ERROR"),
    ],
)
def test_refusals_have_the_shape(
    client: TestClient, method: str, path: str, content: str | None, status: int, type_: str
) -> None:
    answer = client.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (status, type_)
    assert set(answer.json()) == _SHAPE
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def test_request_id_of_the_client_is_kept_when_harmless(client: TestClient) -> None:
    kept = client.get("/api/healthz", headers={"X-Request-ID": "order-66"})
    replaced = client.get("/api/healthz", headers={"X-Request-ID": "a b\x7f"})
    assert kept.headers["X-Request-ID"] == "order-66"
    assert replaced.headers["X-Request-ID"].startswith("req_")


def test_a_crash_is_a_500_without_its_cause(app: FastAPI, client: TestClient) -> None:
    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("secret detail")

    answer = client.get("/api/crash")
    assert (answer.status_code, answer.json()["type"]) == (500, "INTERNAL_SERVER_ERROR")
    assert "secret detail" not in answer.text
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_full_disk_is_said_plainly_and_no_other_fault_of_a_file_is(app: FastAPI, client: TestClient) -> None:
    @app.get("/write/{number}")
    def write(number: int) -> None:
        raise OSError(number, os.strerror(number))

    full = client.get(f"/api/write/{errno.ENOSPC}")
    assert (full.status_code, full.json()["type"]) == (503, "EXTERNAL_SERVICE_ERROR")
    assert "disk is full" in full.json()["message"]
    assert full.headers["Retry-After"] == "5"
    assert client.get(f"/api/write/{errno.EACCES}").status_code == 500


def test_a_failing_commit_answers_500_never_200(app: FastAPI, client: TestClient) -> None:
    @app.get("/fails-to-commit")
    def fails_to_commit(session: DbSession) -> dict[str, str]:
        def refuse() -> None:
            raise RuntimeError("the commit failed")

        session.commit = refuse  # type: ignore[method-assign]
        return {"status": "ok"}

    assert client.get("/api/fails-to-commit").status_code == 500


def test_ready_when_every_part_answers(client: TestClient) -> None:
    answer = client.get("/api/readyz")
    assert answer.status_code == 200
    assert answer.json()["parts"] == {"database": "ok", "cache": "ok", "storage": "ok"}


def test_not_ready_names_the_part_that_is_down(client: TestClient, resources: Resources) -> None:
    resources.cache.connection_pool.connection_kwargs["port"] = 1
    resources.cache.connection_pool.disconnect()
    answer = client.get("/api/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["cache"].startswith("down")


def test_metrics_count_requests_by_route_template(client: TestClient, alice: Tenant) -> None:
    alice.get(f"/projects/{alice.project_id}")
    text = client.get("/api/metrics").text
    assert 'route="/projects/{project_id}"' in text
    assert alice.project_id not in text


def test_openapi_names_operations_as_the_endpoints(client: TestClient) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    operations = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(operations) == len(set(operations))
    assert {"register", "login", "refresh_token", "validate_token"} <= set(operations)
