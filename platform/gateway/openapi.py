"""The API's description: what FastAPI reads from the routes, and every refusal that they can answer with.

A route says itself only what does not follow from its shape, with ``responses=`` and a bare description.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.constants import REF_TEMPLATE
from pydantic import BaseModel

from ..kernel.errors import ErrorType

Document = dict[str, Any]

_METHODS = ("get", "put", "post", "delete", "patch")
_REFUSALS = {
    400: "The body cannot be read.",
    401: "No valid credential came with the request.",
    403: "The caller lacks the permission that the message names.",
    404: "There is no such object for this caller.",
    409: "The request contradicts what is there.",
    413: "The body is larger than its limit.",
    415: "The content is not of a kind that is read here.",
    416: "The range lies outside of the content.",
    422: "The input is readable and wrong.",
    429: "A limit is used up.",
    500: "The platform is at fault.",
    502: "A service outside of the platform answered wrongly.",
    503: "Something that the platform depends on does not answer.",
}
_EXPLAINED = {401: ("WWW-Authenticate",), 416: ("Content-Range",), 429: ("Retry-After",)}
_ALWAYS = (429, 500, 503)
_COUNTED = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_HEADERS = {
    "X-Request-ID": ("string", "Names the request in the platform's logs."),
    "X-RateLimit-Limit": ("integer", "Requests that the caller may send in a minute."),
    "X-RateLimit-Remaining": ("integer", "Requests that are left of them."),
    "X-RateLimit-Reset": ("integer", "Seconds until there are more."),
    "Retry-After": ("integer", "Seconds to wait before the next try."),
    "WWW-Authenticate": ("string", "The scheme of a credential (RFC 9110 section 11.6.1)."),
    "Content-Range": ("string", "How long the content is (RFC 9110 section 15.5.17)."),
}


class ErrorRead(BaseModel):
    """The one shape of every refusal and failure."""

    type: ErrorType
    message: str
    details: dict[str, Any]
    request_id: str
    timestamp: datetime


def install(app: FastAPI) -> None:
    """Let the application describe itself with all of its answers."""
    plain = app.openapi

    def described() -> Document:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(plain())
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _describe(document: Document) -> Document:
    components: Document = document["components"]
    for path, operations in document["paths"].items():
        for method in (method for method in _METHODS if method in operations):
            _complete(components, method, operations[method], is_limited=path.startswith("/v1/"))
    components["schemas"] |= _schemas(ErrorRead)
    components["headers"] = {name: _header(*said) for name, said in _HEADERS.items()}
    components["responses"] = {_name(status): _refusal(status) for status in _REFUSALS}
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    return document


def _complete(components: Document, method: str, operation: Document, *, is_limited: bool) -> None:
    """Add the refusals that follow from an operation's shape, and the headers of its other answers."""
    responses: Document = operation["responses"]
    counted = _COUNTED if is_limited else ()
    if is_limited:
        implied = [status for status, applies in _RULES.items() if applies(components, method, operation)]
        responses |= {str(status): {} for status in (*implied, *_ALWAYS)}
    for status, response in responses.items():
        if int(status) >= 400 and "content" not in response:
            responses[status] = {"$ref": f"#/components/responses/{_name(int(status))}"}
        else:
            response["headers"] = _headers("X-Request-ID", *counted)
    operation["responses"] = dict(sorted(responses.items()))


def _refusal(status: int) -> Document:
    return {
        "description": _REFUSALS[status],
        "headers": _headers("X-Request-ID", *_COUNTED, *_EXPLAINED.get(status, ())),
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorRead"}}},
    }


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "")


def _headers(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(type_: str, description: str) -> Document:
    return {"description": description, "required": True, "schema": {"type": type_}}


def _schemas(model: type[BaseModel]) -> Document:
    own = model.model_json_schema(ref_template=REF_TEMPLATE)
    others: Document = own.pop("$defs", {})
    return others | {model.__name__: own}


def _needs_login(_: Document, method: str, operation: Document) -> bool:
    return "security" in operation


def _may_conflict(_: Document, method: str, operation: Document) -> bool:
    return "security" in operation and method != "get"


def _has_body(_: Document, method: str, operation: Document) -> bool:
    return "requestBody" in operation


def _has_input(_: Document, method: str, operation: Document) -> bool:
    return "requestBody" in operation or "parameters" in operation


def _names_an_object(components: Document, method: str, operation: Document) -> bool:
    """Tell whether the request names something that may not be there: in its path, query or body."""
    given = operation.get("parameters", ())
    if any(one["in"] == "path" or (one["in"] == "query" and one["name"].endswith("_id")) for one in given):
        return True
    fields = _fields(components, operation.get("requestBody", {}), set()) if "security" in operation else ()
    return any(name == "id" or name.endswith("_id") for name in fields)


def _fields(components: Document, part: Any, seen: set[str]) -> Iterator[str]:
    """Yield the names of all fields of a schema, those of the schemas that it refers to among them."""
    if isinstance(part, list):
        for one in part:
            yield from _fields(components, one, seen)
    elif isinstance(part, dict):
        reference = part.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            yield from _fields(components, components["schemas"][reference.rpartition("/")[2]], seen)
        yield from part.get("properties", {})
        yield from _fields(components, [*part.values()], seen)


_RULES: dict[int, Callable[[Document, str, Document], bool]] = {
    400: _has_body,
    401: _needs_login,
    403: _needs_login,
    404: _names_an_object,
    409: _may_conflict,
    413: _has_body,
    422: _has_input,
}
