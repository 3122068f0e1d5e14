"""The description says every refusal, once."""

import pytest
from fastapi.testclient import TestClient

pytestmark = pytest.mark.integration


def test_refusals_follow_from_the_shape_of_an_operation(client: TestClient) -> None:
    document = client.get("/api/openapi.json").json()
    paths = document["paths"]
    assert set(paths["/v1/auth/jwks"]["get"]["responses"]) == {"200", "429", "500", "503"}
    statuses = {"200", "400", "401", "403", "404", "409", "413", "422", "429", "500", "503"}
    assert set(paths["/v1/models/{model_id}"]["patch"]["responses"]) == statuses
    assert paths["/v1/models"]["post"]["responses"]["409"] == {"$ref": "#/components/responses/Conflict"}
    refusal = document["components"]["responses"]["TooManyRequests"]
    assert refusal["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorRead"}
    assert {"X-Request-ID", "X-RateLimit-Limit", "Retry-After"} <= set(refusal["headers"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_a_wrong_method_is_told_all_that_the_path_takes(client: TestClient) -> None:
    answer = client.put("/api/v1/models/mdl_none")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "PATCH", "DELETE"}
