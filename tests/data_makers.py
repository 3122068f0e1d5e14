"""Makers of datasets."""

from typing import Any

import httpx

from factories import Tenant

DIGITS = b"pixel,label\n0,zero\n1,one\n2,two\n"


def make_dataset(tenant: Tenant, name: str = "digits") -> str:
    answer = tenant.post("/datasets", json={"project_id": tenant.project_id, "name": name})
    assert answer.status_code == 201, answer.text
    id_: str = answer.json()["id"]
    return id_


def upload(tenant: Tenant, dataset_id: str, content: bytes = DIGITS, filename: str = "train.csv") -> httpx.Response:
    return tenant.post(f"/datasets/{dataset_id}/versions", params={"filename": filename}, content=content)


def uploaded(tenant: Tenant, dataset_id: str, content: bytes = DIGITS) -> dict[str, Any]:
    answer = upload(tenant, dataset_id, content)
    assert answer.status_code == 201, answer.text
    version: dict[str, Any] = answer.json()
    return version
