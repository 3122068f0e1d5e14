"""How a deployment tells what may be called, and how."""

import json
import shlex
from typing import Any

import pytest

from factories import Tenant
from onnx_makers import linear_onnx
from raymill.deployments.endpoints import describe_endpoints, make_examples
from registry_makers import make_model

from .conftest import NAME, ModelServer
from .test_compile import deployment, revision

BASE = "http://platform:8000"


def test_the_curl_example_is_a_command_with_a_valid_body() -> None:
    row = revision(1)
    columns = ["it's", 'a "b"']
    row.signature = {**row.signature, "inputs": [{**row.signature["inputs"][0], "columns": columns}]}
    examples = make_examples(deployment({"1": 100}), [row], base_url=BASE)
    assert examples is not None
    words = shlex.split(examples.curl.replace("\\\n", " "))
    assert words[3] == f"{BASE}/v2/models/vision.digits/predict"
    assert json.loads(words[-1]) == {"instances": [dict.fromkeys(columns, 0.0)]}
    assert "Authorization: Bearer $RAYMILL_TOKEN" in words


def test_the_python_example_calls_the_endpoint() -> None:
    examples = make_examples(deployment({"1": 100}), [revision(1)], base_url=BASE)
    assert examples is not None
    compile(examples.python, "example", "exec")
    assert "client.endpoints.predict('vision.digits', [[0.0, 0.0]])" in examples.python
    assert 'api_key=os.environ["RAYMILL_API_KEY"]' in examples.python


def test_a_public_endpoint_asks_for_no_credential() -> None:
    opened = deployment({"1": 100})
    opened.access = {"policy": "public"}
    examples = make_examples(opened, [revision(1)], base_url=BASE)
    assert examples is not None
    assert "Authorization" not in examples.curl
    assert "api_key" not in examples.python
    assert [endpoint.authentication.required for endpoint in describe_endpoints(opened, [revision(1)])] == [False] * 2


def test_without_a_revision_that_could_answer_there_is_no_schema() -> None:
    failed = revision(1)
    failed.status = "failed"
    assert make_examples(deployment({}), [failed], base_url=BASE) is None
    assert [endpoint.schema_ for endpoint in describe_endpoints(deployment({}), [failed])] == [None, None]


@pytest.mark.integration
def test_the_example_of_a_version_is_what_is_tried_and_shown(alice: Tenant, server: ModelServer) -> None:
    model_id = make_model(alice)
    path = f"/models/{model_id}/versions/import"
    given = {"filename": "m.onnx", "example": "[[1.5, 2.0]]"}
    assert alice.post(path, params=given, content=linear_onnx()).status_code == 201
    body = {"project_id": alice.project_id, "name": "digits", "model": "digits"}
    id_ = alice.post("/deployments", json=body).json()["id"]
    served = server.directory.endpoints[NAME]
    assert served.document.revisions[0].example == ([1.5, 2.0],)
    examples = alice.get(f"/deployments/{id_}").json()["examples"]
    assert '{"instances": [[1.5, 2.0]]}' in examples["curl"]
    assert "[[1.5, 2.0]]" in examples["python"]
    asked, _ = (each["schema"]["request"] for each in alice.get(f"/deployments/{id_}/endpoints").json())
    assert asked["examples"] == [{"instances": [[1.5, 2.0]]}]


@pytest.mark.integration
def test_endpoints_are_listed_with_schema_and_limits(alice: Tenant, digits: int) -> None:
    limit = {"requests_per_s": 10.0, "per_caller_per_s": None}
    body = {"project_id": alice.project_id, "name": "digits", "model": "digits", "rate_limit": limit}
    id_ = alice.post("/deployments", json=body).json()["id"]
    listed: list[dict[str, Any]] = alice.get(f"/deployments/{id_}/endpoints").json()
    assert [each["path"] for each in listed] == [f"/v2/models/{NAME}/predict", f"/v2/models/{NAME}/infer"]
    for each in listed:
        assert (each["deployment_id"], each["method"], each["rate_limit"]) == (id_, "POST", limit)
        assert each["authentication"]["policy"] == "project"
        assert set(each["schema"]) == {"request", "response"}
    assert "instances" in alice.get(f"/deployments/{id_}").json()["examples"]["curl"]
