"""What a training job or a deployment was made from is not deleted under it."""

import pytest

from data_makers import make_dataset, uploaded
from factories import Tenant
from raymill.deployments.models import Deployment
from raymill.kernel.resources import Resources
from raymill.train.models import TrainingJob
from registry_makers import import_version, make_model

pytestmark = pytest.mark.integration


def refused(tenant: Tenant, path: str) -> None:
    answer = tenant.delete(path)
    assert (answer.status_code, answer.json()["type"]) == (409, "RESOURCE_CONFLICT"), path
    assert "still" in answer.json()["message"]
    assert tenant.get(path).status_code == 200, path


def test_what_a_training_job_was_made_from_stays(alice: Tenant, resources: Resources) -> None:
    dataset_id = make_dataset(alice)
    version = uploaded(alice, dataset_id)
    run = alice.post("/runs", json={"project_id": alice.project_id, "experiment": "e"}).json()
    job = TrainingJob(
        id="job_1",
        project_id=alice.project_id,
        name="job",
        status="completed",
        config={},
        dataset_version_id=version["id"],
        model_id=make_model(alice),
        run_id=run["id"],
        progress={},
        created_by=alice.user_id,
        user_id=alice.user_id,
        request_id="req_1",
    )
    with resources.session() as session:
        session.add(job)
    for path in (
        f"/datasets/{dataset_id}",
        f"/datasets/{dataset_id}/versions/1",
        f"/runs/{run['id']}",
        f"/experiments/{run['experiment_id']}",
    ):
        refused(alice, path)


def test_a_model_with_a_deployment_stays(alice: Tenant, resources: Resources) -> None:
    model_id = make_model(alice)
    import_version(alice, model_id)
    deployment = Deployment(
        id="dep_1",
        project_id=alice.project_id,
        name="digits",
        environment="production",
        endpoint_key="alice-project.digits",
        model_id=model_id,
        traffic={},
        created_by=alice.user_id,
    )
    with resources.session() as session:
        session.add(deployment)
    refused(alice, f"/models/{model_id}")
