"""The OpenAPI document of one endpoint, made from the signature of the revision that answers."""

from math import prod
from typing import Any

from .protocol.tensors import Port
from .published.directory import Endpoint, Route
from .published.table import AccessPolicy, EndpointDocument, Revision

_TYPES = {"f": "number", "i": "integer", "u": "integer", "b": "boolean", "O": "string"}
_ZEROS: dict[str, Any] = {"f": 0.0, "i": 0, "u": 0, "b": False, "O": ""}
_REFUSALS = {
    "400": "The body is not JSON",
    "401": "The credential is missing or refused",
    "403": "The caller may not invoke this endpoint",
    "404": "There is no such endpoint for this caller",
    "413": "The body is too large",
    "422": "The input does not fit the signature",
    "429": "Too many requests; see Retry-After",
    "503": "The model cannot be loaded now",
    "504": "The answer was not ready in time",
}
_ERROR = {
    "type": "object",
    "required": ["type", "message", "details", "request_id", "timestamp"],
    "properties": {
        "type": {"type": "string"},
        "message": {"type": "string"},
        "details": {"type": "object"},
        "request_id": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
    },
}
_MOST_SHOWN = 1000
_BEARER = {"type": "http", "scheme": "bearer", "description": "An access token, or an API key"}
_KEY = {"type": "apiKey", "in": "header", "name": "X-API-Key"}


def openapi(endpoint: Endpoint, route: Route) -> dict[str, Any]:
    """Describe 'predict', 'infer' and the metadata of an endpoint in OpenAPI 3.1."""
    base = f"/v2/models/{endpoint.name}"
    revision, inputs, outputs = route.revision, _ports(route, "inputs"), _ports(route, "outputs")
    return {
        "openapi": "3.1.0",
        "info": {"title": endpoint.name, "version": route.target.version},
        "servers": [{"url": "/"}],
        "security": _security(endpoint.document.access),
        "paths": {
            f"{base}/predict": {"post": _operation("predict", _predict(inputs, outputs, revision))},
            f"{base}/infer": {"post": _operation("infer", _infer(inputs, outputs))},
            base: {"get": _operation("get_metadata", ({}, {}, {"type": "object"}))},
        },
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"bearer": _BEARER, "key": _KEY},
        },
    }


def openapi_of(document: EndpointDocument) -> dict[str, Any] | None:
    """Describe an endpoint by its newest revision, of those with traffic if any has; None without a revision."""
    endpoint = Endpoint(document)
    routes = endpoint.serving or [endpoint.routes[str(revision.number)] for revision in document.revisions]
    return openapi(endpoint, routes[-1]) if routes else None


def _ports(route: Route, side: str) -> list[Port]:
    return list(getattr(route.target.interface, side).values())


def _security(access: AccessPolicy) -> list[dict[str, list[str]]]:
    """Return what may be sent: an API key goes by either header, and to a public endpoint nothing need go."""
    anything: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]
    return [*anything, {}] if access.policy == "public" else anything


Exchange = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def _operation(name: str, exchange: Exchange) -> dict[str, Any]:
    """Describe an operation by the schema of its request, an example of one, and the schema of its answer."""
    asked, example, answered = exchange
    refusals = {
        status: {"description": text, "content": _json({"$ref": "#/components/schemas/Error"})}
        for status, text in _REFUSALS.items()
    }
    operation: dict[str, Any] = {
        "operationId": name,
        "responses": {"200": {"description": "The answer", "content": _json(answered)}, **refusals},
    }
    if asked:
        operation["requestBody"] = {"required": True, "content": _json({**asked, "examples": [example]})}
    return operation


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _predict(inputs: list[Port], outputs: list[Port], revision: Revision) -> Exchange:
    row = _row(inputs)
    asked = {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": {"type": "array", "minItems": 1, "items": row}},
    }
    prediction = _value(outputs[0]) if len(outputs) == 1 else _object({port.name: _value(port) for port in outputs})
    answered = {"type": "object", "properties": {"predictions": {"type": "array", "items": prediction}}}
    example = list(revision.example) if revision.example else [_zero_row(inputs)]
    return asked, {"instances": example}, answered


def _row(inputs: list[Port]) -> dict[str, Any]:
    """Describe one row: an object by column or input, or, of a model of one input, its value alone."""
    if any(port.columns is None for port in inputs):
        keyed = _object({port.name: _value(port) for port in inputs})
    else:
        keyed = _object({column: _cell(port, column) for port in inputs for column in port.columns or ()})
        nullable = {column for port in inputs for column in port.nullable}
        keyed["required"] = [column for column in keyed["required"] if column not in nullable]
    return keyed if len(inputs) > 1 else {"anyOf": [_value(inputs[0]), keyed]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _cell(port: Port, column: str) -> dict[str, Any]:
    kinds = [_TYPES[port.dtype.kind]]
    kinds += ["string"] if port.in_days else []
    kinds += ["null"] if column in port.nullable else []
    return {"type": kinds if len(kinds) > 1 else kinds[0]}


def _value(port: Port) -> dict[str, Any]:
    """Describe the part of a tensor that belongs to one row; of a width of one the lists may be left out."""
    schema: dict[str, Any] = {"type": _TYPES[port.dtype.kind]}
    if port.nullable or port.in_days:
        schema = {"type": sorted({schema["type"], "string", "null"})}
    scalar = schema
    for size in reversed(port.shape[1:]):
        schema = {"type": "array", "items": schema}
        if size != -1:
            schema |= {"minItems": size, "maxItems": size}
    return {"anyOf": [schema, scalar]} if port.shape[1:] == (1,) else schema


def _zero_row(inputs: list[Port]) -> Any:
    if all(port.columns is not None for port in inputs):
        return {column: _ZEROS[port.dtype.kind] for port in inputs for column in port.columns or ()}
    return _zero(inputs[0]) if len(inputs) == 1 else {port.name: _zero(port) for port in inputs}


def _zero(port: Port) -> Any:
    value = _ZEROS[port.dtype.kind]
    sizes = [1 if size == -1 else size for size in port.shape[1:]]
    # What nobody would read is shortened, and shows the form alone.
    most = _MOST_SHOWN if prod(sizes) <= _MOST_SHOWN else 2
    for size in reversed(sizes):
        value = [value] * min(size, most)
    return value


def _infer(inputs: list[Port], outputs: list[Port]) -> Exchange:
    tensors = [_tensor(port) for port in inputs]
    asked = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "minItems": len(inputs), "maxItems": len(inputs), "items": {"anyOf": tensors}},
        },
    }
    answered = _object({"outputs": {"type": "array", "items": {"anyOf": [_tensor(port) for port in outputs]}}})
    example = {"inputs": [_zero_tensor(port) for port in inputs]}
    return asked, example, answered


def _tensor(port: Port) -> dict[str, Any]:
    return _object(
        {
            "name": {"const": port.name},
            "datatype": {"const": port.datatype},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array"},
        }
    )


def _zero_tensor(port: Port) -> dict[str, Any]:
    shape = [1 if size == -1 else size for size in port.shape]
    return {"name": port.name, "datatype": port.datatype, "shape": shape, "data": [_zero(port)]}
