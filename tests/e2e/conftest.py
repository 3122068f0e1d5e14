"""One whole platform per run, and the main job done once on it."""

import json
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from open_load import Load
from patient import Patient
from raymill.sdk import Client, credentials
from whole_platform import Platform, Tenant, running_platform


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put last what kills the parts of the platform that the other files use."""
    killers = ["test_static_stability.py", "test_whole_again.py"]
    items.sort(key=lambda item: killers.index(item.path.name) if item.path.name in killers else -1)


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """Bring the platform up once, and take it down at the end."""
    with running_platform() as running:
        yield running


@pytest.fixture(scope="session")
def alice(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return a client of a registered user, who stays logged in however long a run takes."""
    with Client(platform.url) as anonymous:
        login = anonymous.auth.register(
            email=f"alice-{secrets.token_hex(4)}@example.com", name="Alice", password="correct horse battery"
        )
    home = tmp_path_factory.mktemp("alice")
    credentials.save(home, platform.url, login.access_token, login.refresh_token)
    with Client.from_home(home) as client:
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


@pytest.fixture(scope="session")
def patient(platform: Platform, tenant: Tenant, digits: Any) -> Patient:
    """The platform that the main job was done on."""
    return Patient(platform, tenant, digits.held_out[0])


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Say what was seen, and of which load; the figures of the run stand in its report."""

    def say(text: str, load: Load | None = None) -> None:
        sys.stderr.write(f"\n{text}\n")
        request.node.user_properties.append(("recovery", text))
        request.node.user_properties.extend([("load", load.figures())] if load else [])

    return say
