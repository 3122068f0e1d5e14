"""Every failure of the control plane leaves in the one error shape."""

import structlog
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ..kernel import acting
from ..kernel.disk import means_full
from ..kernel.errors import DiskFull, ErrorType, RaymillError, error_body
from ..kernel.telemetry import current_request_id

log = structlog.get_logger("raymill.gateway")

_BY_STATUS = {
    401: ErrorType.AUTHENTICATION_ERROR,
    403: ErrorType.AUTHORIZATION_ERROR,
    404: ErrorType.RESOURCE_NOT_FOUND,
    409: ErrorType.RESOURCE_CONFLICT,
    429: ErrorType.RATE_LIMIT_EXCEEDED,
}


def install(app: FastAPI) -> None:
    """Register the handlers of all failures on the application."""
    app.add_exception_handler(RaymillError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OSError, _unwritten)
    app.add_exception_handler(Exception, _broken)


def refusal(error: RaymillError) -> JSONResponse:
    """Return the answer that stands for an error, for what refuses outside of the handlers' reach."""
    return _answer(error.status, error.type, error.message, error.details, error.headers)


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RaymillError)  # noqa: S101 -- registered for this class alone
    return refusal(error)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- registered for this class alone
    problems = jsonable_encoder([{k: e[k] for k in ("loc", "msg", "type")} for e in error.errors()])
    if any(problem["type"] == "json_invalid" for problem in problems):
        return _answer(400, ErrorType.VALIDATION_ERROR, "The body is not readable JSON.", {"errors": problems})
    where = ".".join(str(part) for part in problems[0]["loc"])
    message = f"The request is not valid: {where}: {problems[0]['msg']}."
    return _answer(422, ErrorType.VALIDATION_ERROR, message, {"errors": problems})


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for this class alone
    type_ = _BY_STATUS.get(error.status_code, ErrorType.VALIDATION_ERROR)
    messages = {
        404: f"There is nothing at {request.url.path}.",
        405: f"{request.method} is not allowed at {request.url.path}.",
    }
    message = messages.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request))
    return _answer(error.status_code, type_, message, headers=headers)


def _allowed(request: Request) -> list[str]:
    """Return the methods that any route at this path takes; the router itself names only those of one route."""
    scope = {key: value for key, value in request.scope.items() if key not in ("route", "endpoint", "path_params")}
    routes = request.app.routes
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches(scope | {"method": method})[0] is Match.FULL for route in routes)
    ]


def _unwritten(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)  # noqa: S101 -- registered for this class alone
    if not means_full(error):
        raise error
    log.warning("disk_full", path=request.url.path, error=str(error))
    return refusal(DiskFull())


def _broken(request: Request, error: Exception) -> JSONResponse:
    return broken(request.url.path, error)


def broken(path: str, error: Exception) -> JSONResponse:
    """Return the answer that stands for a fault of the platform, whose cause goes into the log."""
    log.error("request_failed", path=path, exc_info=error)
    return _answer(500, ErrorType.INTERNAL_SERVER_ERROR, "The platform failed to answer; the cause is in its log.")


def _answer(
    status: int,
    type_: ErrorType,
    message: str,
    details: dict[str, object] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    acting.refuse(message)
    body = error_body(type_, message, request_id=current_request_id(), details=details)
    return JSONResponse(body, status_code=status, headers=headers)
