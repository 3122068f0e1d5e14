"""Examples that versions are registered with."""

import json
from typing import Any

import pytest
from sqlmodel import col, select

from factories import Tenant
from onnx_makers import linear_onnx
from raymill.auth.models import AuditEntry
from raymill.kernel.resources import Resources
from registry_makers import make_draft, make_model

pytestmark = pytest.mark.integration

ROWS = [[1.5, 2.0], [3, 4]]


@pytest.fixture
def model_id(alice: Tenant) -> str:
    """A model without versions."""
    return make_model(alice)


def complete(alice: Tenant, model_id: str, example: Any, **more: Any) -> Any:
    return alice.post(f"/models/{model_id}/versions/1/complete", json={"example": example} | more)


def nested(depth: int) -> str:
    return "[" * depth + "1" + "]" * depth


def test_an_example_that_fits_is_kept_and_no_log_holds_it(alice: Tenant, model_id: str, resources: Resources) -> None:
    make_draft(alice, model_id)
    alice.put(f"/models/{model_id}/versions/1/artifacts/model.onnx", content=linear_onnx())
    ready = complete(alice, model_id, ROWS).json()
    assert (ready["status"], ready["example"]) == ("ready", ROWS)
    assert alice.get(f"/models/{model_id}/versions/1").json()["example"] == ROWS
    with resources.session() as session:
        kept = session.exec(select(AuditEntry.after).where(col(AuditEntry.object_type) == "model_version")).all()
    assert [row["example"] for row in kept if row and "example" in row] == [None, "[redacted]"]


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ([[1.0, 2.0, 3.0]], "does not fit the signature: Input 'x': the shape [1, 3]"),
        ([["a", "b"]], "the values must be numbers"),
        ([{"width": 1, "height": 2}], "the signature names no columns"),
        ([[10**30, 1]], "has no form in JSON"),
        ([], "at least 1 item"),
        ([ROWS[0]] * 11, "at most 10 items"),
        (7, "valid list"),
    ],
)
def test_an_example_that_does_not_fit_leaves_a_draft(alice: Tenant, model_id: str, example: Any, words: str) -> None:
    make_draft(alice, model_id)
    alice.put(f"/models/{model_id}/versions/1/artifacts/model.onnx", content=linear_onnx())
    refused = complete(alice, model_id, example)
    assert (refused.status_code, words in refused.json()["message"]) == (422, True), refused.text
    assert alice.get(f"/models/{model_id}/versions/1").json()["status"] == "draft"


def test_an_example_is_small_and_needs_a_signature(alice: Tenant, model_id: str) -> None:
    make_draft(alice, model_id)
    alice.put(f"/models/{model_id}/versions/1/artifacts/notes.txt", content=b"none")
    assert "Without a signature" in complete(alice, model_id, ROWS).json()["message"]
    described = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]}
    described["outputs"] = described["inputs"]
    refused = complete(alice, model_id, [[0.125] * 3000], signature=described)
    assert (refused.status_code, "at most 16384 bytes" in refused.json()["message"]) == (422, True), refused.text
    for depth in (100, 900):
        body = f'{{"example": {nested(depth)}, "signature": {json.dumps(described)}}}'
        headers = {"Content-Type": "application/json"}
        path = f"/models/{model_id}/versions/1/complete"
        assert alice.post(path, content=body, headers=headers).status_code == 422


def test_a_file_may_be_imported_with_its_example(alice: Tenant, model_id: str) -> None:
    path, file = f"/models/{model_id}/versions/import", {"filename": "m.onnx"}
    for example, words in (("[[1]]", "does not fit"), ("7", "cannot be read"), ("[", "cannot be read")):
        refused = alice.post(path, params=file | {"example": example}, content=linear_onnx())
        assert (refused.status_code, words in refused.json()["message"]) == (422, True), refused.text
    assert alice.get(f"/models/{model_id}/versions").json()["items"] == []
    imported = alice.post(path, params=file | {"example": json.dumps(ROWS)}, content=linear_onnx())
    assert (imported.status_code, imported.json()["example"]) == (201, ROWS)
