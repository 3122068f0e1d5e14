"""Makers of models and versions."""

from typing import Any

from factories import Tenant
from onnx_makers import linear_onnx


def make_model(tenant: Tenant, name: str = "digits", **fields: Any) -> str:
    answer = tenant.post("/models", json={"project_id": tenant.project_id, "name": name, **fields})
    assert answer.status_code == 201, answer.text
    id_: str = answer.json()["id"]
    return id_


def make_draft(tenant: Tenant, model_id: str, **fields: Any) -> dict[str, Any]:
    answer = tenant.post(f"/models/{model_id}/versions", json=fields)
    assert answer.status_code == 201, answer.text
    version: dict[str, Any] = answer.json()
    return version


def import_version(tenant: Tenant, model_id: str, content: bytes | None = None) -> dict[str, Any]:
    path = f"/models/{model_id}/versions/import"
    answer = tenant.post(path, params={"filename": "m.onnx"}, content=content or linear_onnx())
    assert answer.status_code == 201, answer.text
    version: dict[str, Any] = answer.json()
    return version
