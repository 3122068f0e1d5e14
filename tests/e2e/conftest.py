"""One whole platform per run, and the main job done once on it."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from raymill.sdk import Client
from whole_platform import Platform, Tenant, running_platform


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put last what kills the parts of the platform that the other files use."""
    items.sort(key=lambda item: item.path.name == "test_whole_again.py")


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """Bring the platform up once, and take it down at the end."""
    with running_platform() as running:
        yield running


@pytest.fixture(scope="session")
def alice(platform: Platform) -> Iterator[Client]:
    """Return a client of a registered user."""
    with Client(platform.url) as anonymous:
        login = anonymous.auth.register(
            email=f"alice-{secrets.token_hex(4)}@example.com", name="Alice", password="correct horse battery"
        )
    with Client(platform.url, login.access_token) as client:
        yield client


@pytest.fixture(scope="session")
def digits() -> Any:
    """Return the digits data, split."""
    from raymill.cli.demo import Digits

    return Digits.load()


@pytest.fixture(scope="session")
def tenant(alice: Client, digits: Any) -> Tenant:
    """Do the main job once: upload, train, deploy."""
    project = alice.projects.create("main-job")
    dataset = alice.datasets.create(project_id=project.id, name="digits")
    alice.datasets.upload(dataset.id, digits.csv(), filename="digits.csv")
    job = alice.training_jobs.start(
        project_id=project.id,
        dataset=dataset.id,
        model="digits",
        hyperparameters={"target": "digit", "epochs": 30, "learning_rate": 2e-3, "seed": 7},
    )
    job = alice.training_jobs.wait(job.id, timeout_s=120)
    assert job.status == "completed", json.dumps(job.logs)
    version = next(alice.models.versions(job.model_id))
    deployment = alice.deployments.deploy(project_id=project.id, name="digits", model="digits")
    deployment = alice.deployments.wait_until_ready(deployment.id, timeout_s=10)
    return Tenant(alice, project.id, dataset.id, version, deployment)
