"""The error tree and its one shape."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from raymill.kernel import errors
from raymill.kernel.errors import ErrorType, RaymillError, error_body

STATUS = {
    ErrorType.VALIDATION_ERROR: {400, 405, 413, 415, 416, 422, 499},
    ErrorType.AUTHENTICATION_ERROR: {401},
    ErrorType.AUTHORIZATION_ERROR: {403},
    ErrorType.RESOURCE_NOT_FOUND: {404},
    ErrorType.RESOURCE_CONFLICT: {409},
    ErrorType.RATE_LIMIT_EXCEEDED: {429},
    ErrorType.EXTERNAL_SERVICE_ERROR: {502, 503, 504},
    ErrorType.INTERNAL_SERVER_ERROR: {500},
}


def tree(root: type[RaymillError] = RaymillError) -> Iterator[type[RaymillError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("error", sorted(set(tree()), key=lambda error: error.__qualname__), ids=lambda e: e.__name__)
def test_status_and_type_belong_together(error: type[RaymillError]) -> None:
    assert error.status in STATUS[error.type]
    assert error.__doc__


def test_every_type_has_an_error() -> None:
    assert {error.type for error in tree()} == set(ErrorType)


def test_the_shape() -> None:
    body = error_body(ErrorType.RESOURCE_NOT_FOUND, "gone", request_id="req_1", details={"id": "mdl_1"})
    moment = datetime.fromisoformat(body.pop("timestamp"))
    assert moment.utcoffset() is not None
    assert body == {"type": "RESOURCE_NOT_FOUND", "message": "gone", "details": {"id": "mdl_1"}, "request_id": "req_1"}
    assert error_body(ErrorType.INTERNAL_SERVER_ERROR, "m", request_id="")["details"] == {}


def test_headers_tell_when_and_how_to_come_again() -> None:
    assert errors.RateLimited("slow down", retry_after_s=3).headers == {"Retry-After": "3"}
    assert errors.NotFound("gone").headers == {}
    assert errors.AuthenticationFailed("who?").headers == {"WWW-Authenticate": "Bearer"}


def test_the_message_is_the_text() -> None:
    error = errors.Conflict("taken", details={"name": "a"})
    assert (str(error), error.message, error.details) == ("taken", "taken", {"name": "a"})
