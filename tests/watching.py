"""A tenant who looks into every answer for what is another's, and what it reads of an OpenAPI document."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi.testclient import TestClient

from belongings import Belongings, body_of

_ID = re.compile(r"\b[a-z]{2,5}_[0-9a-hjkmnp-tv-z]{26}\b")
# Of the platform; and the audit log, which grows with what is refused.
NOT_OF_TENANTS = {"sso", "jwks", "metrics", "audit", "readyz"}


@dataclass
class Watch:
    """Asks as one tenant and notes what its answers tell of the other."""

    own: Belongings
    other: Belongings
    client: TestClient
    secrets: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    asked: int = 0
    changes_hers: bool = False

    @property
    def login(self) -> dict[str, str]:
        """The header of who asks."""
        return {"Authorization": f"Bearer {self.own.tenant.tokens['access_token']}"}

    def ask(self, method: str, url: str, sent: str = "", wanted: set[int] | None = None, **more: Any) -> httpx.Response:
        """Send one request that holds ``sent`` of the other tenant; the answer may repeat that and nothing else."""
        headers = self.login | more.pop("headers", {})
        answer = self.client.request(method, "/api" + url, headers=headers, **more)
        self.asked += 1
        told = (answer.text + str(dict(answer.headers))).replace(sent or "\0", "").lower()
        leaked = sorted(secret for secret in self.secrets if secret in told)
        is_wanted = answer.status_code < 500 if wanted is None else answer.status_code in wanted
        if leaked or not is_wanted:
            said = f"{method} {url} with {sent!r} {more}: {answer.status_code} {answer.text[:300]}"
            self.problems.append(f"{said}; it should be {wanted or 'no fault'}; it tells {leaked}")
        return answer


def view(client: TestClient, made: Belongings) -> dict[str, str]:
    """Return all that a tenant reads of its own, by path."""
    login = {"Authorization": f"Bearer {made.tenant.tokens['access_token']}"}
    seen = {}
    for method, path, operation in operations(client):
        if method == "GET" and not NOT_OF_TENANTS & set(path.split("/")):
            params = body_of(operation["operationId"], made.values).get("params")
            headers = login | {"X-Request-ID": "the-view"}
            answer = client.get("/api" + made.path(path), headers=headers, params=params)
            if answer.status_code == 200:
                seen[path] = answer.text
    assert len(seen) > 30, seen.keys()
    return seen


def operations(client: TestClient) -> list[tuple[str, str, dict[str, Any]]]:
    paths = client.app.openapi()["paths"]  # type: ignore[attr-defined]
    return [(method.upper(), path, operation) for path, item in paths.items() for method, operation in item.items()]


def texts(client: TestClient, operation: dict[str, Any]) -> set[str]:
    """Return the fields of a JSON body that take a text, those of objects in it with a dot."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schemas = client.app.openapi()["components"]["schemas"]  # type: ignore[attr-defined]
    return set(_texts_of(schemas, content.get("schema", {}), ""))


def _texts_of(schemas: dict[str, Any], schema: dict[str, Any], name: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    forms = [*schema.get("anyOf", []), *schema.get("oneOf", []), *schema.get("allOf", [])]
    if schema.get("type") == "array":
        forms.append(schema["items"])
    if schema.get("type") == "string" and not {"enum", "const", "format"} & set(schema):
        yield name
    for form in forms:
        yield from _texts_of(schemas, form, name)
    for field_name, inner in schema.get("properties", {}).items():
        yield from _texts_of(schemas, inner, f"{name}.{field_name}".strip("."))


def replaced(body: dict[str, Any] | None, known: str, sent: Any) -> dict[str, Any]:
    """Return a body with one field replaced, which may lie in an object."""
    outer, _, inner = known.partition(".")
    held = dict(body or {})
    if known == "access.keys":
        return held | {"access": {"policy": "keys", "keys": sent}}
    return held | {outer: {**held.get(outer, {}), inner: sent} if inner else sent}


def ids(found_in: Iterable[str]) -> set[str]:
    """Return the ids in some texts."""
    return {found for text in found_in for found in _ID.findall(text.lower())}
