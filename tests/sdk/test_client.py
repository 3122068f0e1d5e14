"""The client against the real control plane."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from factories import PASSWORD
from raymill.sdk import (
    AuthenticationFailed,
    Client,
    Conflict,
    DeploymentFailed,
    NotFound,
    ValidationFailed,
    WaitTimeout,
)
from raymill.train.trainers.onnx_network import write_network

pytestmark = pytest.mark.integration


def test_accounts_projects_and_keys(platform_url: str, member: Client) -> None:
    assert member.auth.me().email == "ann@example.com"
    project = member.projects.from_name("mine", create_if_missing=True)
    assert member.projects.from_name("mine", create_if_missing=True).id == project.id
    assert member.projects.update(project.id, description="new").description == "new"
    with pytest.raises(NotFound, match="'other'"):
        member.projects.from_name("other")
    key = member.api_keys.create(project_id=project.id, name="ci")
    with Client(platform_url, api_key=key.key) as machine:
        assert [found.id for found in machine.projects.list()] == [project.id]
        member.api_keys.revoke(key.id)
        with pytest.raises(AuthenticationFailed):
            machine.projects.get(project.id)
    assert member.api_keys.get(key.id).revoked_at is not None


def test_a_signature_that_is_too_long_for_a_url_goes_another_way(member: Client) -> None:
    project = member.projects.create("mine")
    model = member.models.create(project_id=project.id, name="wide")
    columns = [f"a column with a long name, the {number}th" for number in range(300)]
    x = {"name": "x", "datatype": "FP32", "shape": [-1, 300], "columns": columns}
    signature = {"inputs": [x], "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}]}
    version = member.models.import_file(model.id, b"a program", filename="wide.pt", signature=signature)
    assert (version.version, version.status) == (1, "ready")
    assert version.signature["inputs"][0]["columns"] == columns
    with pytest.raises(ValidationFailed):
        member.models.import_file(model.id, b"no graph", filename="wide.onnx", signature=signature)
    assert [one.status for one in member.models.versions(model.id)] == ["failed", "ready"]


def test_login_refresh_and_logout(platform_url: str, member: Client) -> None:
    with Client(platform_url) as stranger:
        with pytest.raises(AuthenticationFailed):
            stranger.auth.login(email="ann@example.com", password="wrong")
        login = stranger.auth.login(email="ann@example.com", password=PASSWORD)
        again = stranger.auth.refresh(login.refresh_token)
    with Client(platform_url, again.access_token) as client:
        assert client.auth.validate(again.access_token)["valid"]
        client.auth.logout()
        with pytest.raises(AuthenticationFailed):
            client.auth.me()


def test_datasets_go_up_as_csv_and_come_back_as_parquet(member: Client, table: Path, tmp_path: Path) -> None:
    project = member.projects.create("mine")
    dataset = member.datasets.create(project_id=project.id, name="table")
    version = member.datasets.upload(dataset.id, table)
    assert (version.version, version.row_count) == (1, 20)
    assert [column.name for column in version.table_schema.columns] == ["width", "height", "kind"]
    member.datasets.upload(dataset.id, b"a,b\n1,2\n", filename="small.csv")
    assert [found.version for found in member.datasets.versions(dataset.id)] == [2, 1]
    assert member.datasets.get(dataset.id).version == 2
    target = tmp_path / "back.parquet"
    member.datasets.download(dataset.id, 1, target)
    assert pq.read_table(target).num_rows == member.datasets.get_version(dataset.id, 1).row_count
    assert [found.id for found in member.datasets.list(project_id=project.id)] == [dataset.id]
    member.datasets.delete(dataset.id)
    with pytest.raises(NotFound):
        member.datasets.get(dataset.id)


def test_a_model_is_registered_piece_by_piece(member: Client, tmp_path: Path) -> None:
    project = member.projects.create("mine")
    model = member.models.from_name("reader", project_id=project.id, create_if_missing=True)
    assert member.models.from_name("reader", project_id=project.id).id == model.id
    with pytest.raises(Conflict):
        member.models.create(project_id=project.id, name="reader")
    draft = member.models.create_version(model.id, metrics={"accuracy": 0.5})
    member.models.put_artifact(model.id, draft.version, "notes/config.json", b"{}", type="config")
    found = member.models.get_version(model.id, draft.version)
    assert [(one.path, one.type, one.size) for one in found.artifacts] == [("notes/config.json", "config", 2)]
    target = tmp_path / "config.json"
    member.models.download_artifact(model.id, draft.version, "notes/config.json", target)
    assert target.read_bytes() == b"{}"
    failed = member.models.fail_version(model.id, draft.version, error="gave up")
    assert failed.status == "failed"
    assert [one.version for one in member.models.versions(model.id)] == [1]
    assert member.models.update(model.id, description="reads").description == "reads"
    with pytest.raises(ValidationFailed):
        member.models.import_onnx(model.id, b"not a graph")
    member.models.delete_version(model.id, draft.version)
    member.models.delete(model.id)
    assert list(member.models.list(project_id=project.id)) == []


def test_a_training_job_is_started_once_and_cancelled(member: Client, table: Path) -> None:
    project = member.projects.create("mine")
    dataset = member.datasets.create(project_id=project.id, name="table")
    member.datasets.upload(dataset.id, table)
    jobs = [
        member.training_jobs.start(
            project_id=project.id,
            dataset=dataset.id,
            model="reader",
            hyperparameters={"target": "kind"},
            idempotency_key="again",
        )
        for _ in range(2)
    ]
    assert jobs[0] == jobs[1]
    assert [job.id for job in member.training_jobs.list(project_id=project.id, status="pending")] == [jobs[0].id]
    member.training_jobs.cancel(jobs[0].id)
    assert member.training_jobs.wait(jobs[0].id, timeout_s=5).status == "cancelled"
    assert member.training_jobs.logs(jobs[0].id) == ""
    member.training_jobs.delete(jobs[0].id)
    assert list(member.training_jobs.list()) == []


def test_an_own_onnx_file_is_imported_and_deployed(member: Client, tmp_path: Path) -> None:
    project = member.projects.create("mine")
    model = member.models.create(project_id=project.id, name="linear", framework="custom")
    one = np.ones(2, dtype=np.float32)
    weights = {"mean": one, "deviation": one, "layers.0.weight": np.eye(2, dtype=np.float32), "layers.0.bias": one}
    write_network(weights, tmp_path / "linear.onnx")
    version = member.models.import_onnx(model.id, tmp_path / "linear.onnx")
    assert (version.status, member.models.get(model.id).version) == ("ready", 1)
    deployment = member.deployments.deploy(project_id=project.id, name="linear", model="linear", environment="staging")
    assert deployment.endpoint.endswith("/v2/models/mine.linear.staging")
    assert member.deployments.metrics(deployment.id)["requests"] == 0
    assert [found.id for found in member.deployments.list(project_id=project.id)] == [deployment.id]
    assert len(member.deployments.update(deployment.id, version=1).revisions) >= 1
    assert deployment.access == {"policy": "project"}
    changed = member.deployments.update(deployment.id, access="authenticated")
    assert (changed.access, len(changed.revisions)) == ({"policy": "authenticated"}, 2)
    key = member.api_keys.create(project_id=project.id, name="shop")
    named = {"policy": "keys", "keys": [key.id]}
    assert member.deployments.update(deployment.id, access=named).access == named
    # No model server runs here that could acknowledge it.
    with pytest.raises(WaitTimeout, match="deploying"):
        member.deployments.wait_until_ready(deployment.id, timeout_s=0)
    assert [each["method"] for each in member.deployments.endpoints(deployment.id)] == ["POST", "POST"]
    with pytest.raises(Conflict, match="No other ready revision"):
        member.deployments.rollback(deployment.id)
    with pytest.raises(ValidationFailed, match="shared pool"):
        member.deployments.scale(deployment.id, 2)
    assert member.deployments.stop(deployment.id).status == "stopped"
    (state,) = member.deployments.events(deployment.id)
    assert (state["status"], state["pending_traffic"]) == ("stopped", {"2": 100})
    with pytest.raises(DeploymentFailed, match="stopped"):
        member.deployments.wait_until_ready(deployment.id)
    assert member.deployments.start(deployment.id).status == "pending"
    member.deployments.delete(deployment.id)
    with pytest.raises(NotFound):
        member.deployments.get(deployment.id)
