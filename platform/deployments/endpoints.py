"""What clients may call of a deployment, and how: made from the signature of the revision that answers."""

import json
from collections.abc import Sequence
from typing import Any

from ..serving.openapi import openapi_of
from .compile import compile_endpoint, endpoint_url
from .models import Deployment, Revision
from .schemas import ApiEndpoint, Authentication, Examples

_OPERATIONS = ("predict", "infer")
_PUBLIC = "public"


def describe_endpoints(deployment: Deployment, revisions: Sequence[Revision]) -> list[ApiEndpoint]:
    """Describe the operations of a deployment; their schemas are unknown while no revision could answer."""
    return [_describe(deployment, name, _operation(deployment, revisions, name)) for name in _OPERATIONS]


def make_examples(deployment: Deployment, revisions: Sequence[Revision], *, base_url: str) -> Examples | None:
    """Write a call for the shell and one for Python; None while no revision could answer."""
    operation = _operation(deployment, revisions, "predict")
    if operation is None:
        return None
    (body,) = _asked(operation)["examples"]
    is_public = deployment.access["policy"] == _PUBLIC
    url = f"{endpoint_url(base_url, deployment.endpoint_key)}/predict"
    return Examples(
        curl=_curl(url, body, is_public=is_public),
        python=_python(base_url, deployment.endpoint_key, body["instances"], is_public=is_public),
    )


def _describe(deployment: Deployment, name: str, operation: dict[str, Any] | None) -> ApiEndpoint:
    return ApiEndpoint(
        id=f"{deployment.id}.{name}",
        deployment_id=deployment.id,
        path=_path(deployment, name),
        method="POST",
        schema=None if operation is None else {"request": _asked(operation), "response": _answered(operation)},
        authentication=Authentication(
            policy=deployment.access["policy"], required=deployment.access["policy"] != _PUBLIC
        ),
        rate_limit=deployment.options.get("rate_limit"),
    )


def _path(deployment: Deployment, name: str) -> str:
    return f"{endpoint_url('', deployment.endpoint_key)}/{name}"


def _operation(deployment: Deployment, revisions: Sequence[Revision], name: str) -> dict[str, Any] | None:
    described = openapi_of(compile_endpoint(deployment, revisions))
    if described is None:
        return None
    operation: dict[str, Any] = described["paths"][_path(deployment, name)]["post"]
    return operation


def _asked(operation: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
    return schema


def _answered(operation: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return schema


def _curl(url: str, body: dict[str, Any], *, is_public: bool) -> str:
    # A quote within quotes of the shell ends them, stands escaped, and begins them anew.
    quoted = json.dumps(body).replace("'", "'\\''")
    headers = [] if is_public else ['-H "Authorization: Bearer $RAYMILL_TOKEN"']
    words = [f"curl -X POST {url}", *headers, "-H 'Content-Type: application/json'", f"-d '{quoted}'"]
    return " \\\n  ".join(words)


def _python(base_url: str, key: str, instances: list[Any], *, is_public: bool) -> str:
    credential = "" if is_public else ', api_key=os.environ["RAYMILL_API_KEY"]'
    imports = "" if is_public else "import os\n\n"
    return (
        f"{imports}from raymill.sdk import Client\n\n"
        f"with Client({base_url!r}{credential}) as client:\n"
        f"    print(client.endpoints.predict({key!r}, {instances!r}))\n"
    )
