"""A deployment whose metrics are read."""

from pathlib import Path

import pytest

from factories import Tenant
from model_makers import add_version
from raymill.kernel.resources import Resources


@pytest.fixture
def deployment_id(resources: Resources, alice: Tenant, tmp_path: Path) -> str:
    """Alice's deployment ``digits``."""
    add_version(resources, alice, tmp_path, content=b"version 1")
    body = {"project_id": alice.project_id, "name": "digits", "model": "digits"}
    id_: str = alice.post("/deployments", json=body).json()["id"]
    return id_
