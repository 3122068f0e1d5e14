"""Every operation of the product's sketch is in the OpenAPI document, or on a list that may only shrink."""

import pytest
from fastapi.testclient import TestClient

pytestmark = pytest.mark.integration

SKETCH = {
    "register", "login", "refresh_token", "validate_token", "assign_role",
    "create_model", "get_model", "update_model", "list_models", "delete_model", "get_model_versions",
    "start_training", "stop_training", "get_training_status", "list_training_jobs", "optimize_hyperparameters",
    "deploy_model", "update_deployment", "scale_deployment", "get_deployment_status", "create_ab_test",
    "collect_metrics", "get_metrics", "detect_drift", "create_alert", "get_alerts",
    "upload_dataset", "get_dataset", "create_pipeline", "run_pipeline", "validate_data_quality",
}  # fmt: skip
PENDING = {
    "optimize_hyperparameters", "create_ab_test", "collect_metrics", "detect_drift", "create_alert",
    "get_alerts", "create_pipeline", "run_pipeline", "validate_data_quality",
}  # fmt: skip

FIELDS = {
    "UserRead": {"id", "email", "name", "role", "teams", "preferences", "created_at", "last_login_at"},
    "ModelRead": {
        "id", "name", "description", "framework", "version", "artifacts", "metadata", "performance", "created_at",
        "updated_at",
    },
    "ArtifactRead": {"id", "type", "path", "size", "checksum", "metadata"},
    "TrainingJobRead": {
        "id", "model_id", "status", "config", "progress", "logs", "metrics", "started_at", "completed_at",
    },
    "DatasetRead": {"id", "name", "version", "schema", "statistics", "quality", "lineage"},
    "ApiEndpoint": {"id", "deployment_id", "path", "method", "schema", "authentication", "rate_limit"},
    "DeploymentRead": {
        "id", "model_id", "environment", "endpoint", "status", "replicas", "resources", "traffic", "created_at",
        "updated_at",
    },
}  # fmt: skip


def operations(client: TestClient) -> set[str]:
    paths = client.get("/api/openapi.json").json()["paths"]
    return {operation["operationId"] for path in paths.values() for operation in path.values()}


def test_every_operation_exists_or_is_pending(client: TestClient) -> None:
    assert operations(client) >= SKETCH - PENDING


def test_what_is_pending_does_not_exist_yet(client: TestClient) -> None:
    assert not operations(client) & PENDING, "take it off the list"


@pytest.mark.parametrize("entity", sorted(FIELDS))
def test_entities_have_the_fields_of_the_sketch(client: TestClient, entity: str) -> None:
    schemas = client.get("/api/openapi.json").json()["components"]["schemas"]
    assert FIELDS[entity] <= set(schemas[entity]["properties"]), FIELDS[entity] - set(schemas[entity]["properties"])
