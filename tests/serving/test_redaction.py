"""Redaction: what is named is gone from every form of a payload, and what cannot be read is left out whole."""

import asyncio
import json

import onnx_models
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plane import MLP
from servers_in_process import serving
from test_log import read_log

from raymill.serving.published.table import LogPolicy, Signature, TensorSpec
from raymill.serving.records.redaction import redactions

PERSON = Signature(
    inputs=(
        TensorSpec(name="numbers", datatype="FP32", shape=(-1, 3), columns=("age", "income", "height")),
        TensorSpec(name="names", datatype="BYTES", shape=(-1, 1), columns=("surname",)),
    ),
    outputs=(TensorSpec(name="score", datatype="FP32", shape=(-1,)),),
)
SECRET = 4711.25


def cleared(names, signature, document, *, of: int = 0):
    content = redactions(names, signature)[of].clear(
        document if isinstance(document, bytes) else orjson.dumps(document)
    )
    return None if content is None else json.loads(content)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ({"instances": [[1, SECRET, 3, 4]]}, {"instances": [[1, None, 3, 4]]}),
        ({"instances": [{"a": 1, "b": SECRET}]}, {"instances": [{"a": 1, "b": None}]}),
        ({"inputs": [[1, SECRET, 3, 4]]}, {"inputs": [[1, None, 3, 4]]}),
        ({"inputs": {"a": [1], "b": [SECRET]}}, {"inputs": {"a": [1], "b": None}}),
        ({"inputs": {"features": [[1, SECRET, 3, 4]]}}, {"inputs": {"features": [[1, None, 3, 4]]}}),
        ({"dataframe_records": [{"b": SECRET}]}, {"dataframe_records": [{"b": None}]}),
        (
            {"dataframe_split": {"columns": ["b", "a"], "data": [[SECRET, 1]]}},
            {"dataframe_split": {"columns": ["b", "a"], "data": [[None, 1]]}},
        ),
        (
            {"dataframe_split": {"columns": [0, 1, 2, 3], "data": [[1, SECRET, 3, 4]]}},
            {"dataframe_split": {"columns": [0, 1, 2, 3], "data": [[1, None, 3, 4]]}},
        ),
    ],
)
def test_a_column_is_taken_out_of_every_form_of_rows(given_, kept):
    assert cleared(["b"], MLP, given_) == kept


@pytest.mark.parametrize("data", [[[1, SECRET, 3, 4], [5, SECRET, 7, 8]], [1, SECRET, 3, 4, 5, SECRET, 7, 8]])
def test_a_column_is_taken_out_of_a_tensor(data):
    tensor = {"name": "features", "shape": [2, 4], "datatype": "FP32", "data": data}
    kept = cleared(["b"], MLP, {"id": "x", "inputs": [tensor]})
    assert str(SECRET) not in json.dumps(kept)
    flat = [value for row in kept["inputs"][0]["data"] for value in (row if isinstance(row, list) else [row])]
    assert (kept["id"], flat) == ("x", [1, None, 3, 4, 5, None, 7, 8])


def test_one_bare_value_and_classes_by_rank_have_no_place():
    bare = {"name": "names", "shape": [1, 1], "datatype": "BYTES", "data": "Smith"}
    assert cleared(["surname"], PERSON, {"inputs": [bare]}) is None
    ranked = {"name": "probabilities", "shape": [1, 3], "datatype": "BYTES", "data": ["0.9:1:green", "0.1:0", "0:2"]}
    assert cleared(["green"], MLP, {"outputs": [ranked]}, of=1) is None


def test_a_tensor_and_a_label_are_columns_too():
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    assert cleared(["features"], MLP, {"inputs": [tensor]})["inputs"][0]["data"] is None
    assert cleared(["green"], MLP, {"predictions": [[0.1, SECRET, 0.2]]}, of=1) == {"predictions": [[0.1, None, 0.2]]}
    output = {"name": "probabilities", "shape": [1, 3], "datatype": "FP32", "data": [0.1, SECRET, 0.2]}
    assert cleared(["green"], MLP, {"outputs": [output]}, of=1)["outputs"][0]["data"] == [0.1, None, 0.2]
    assert cleared(["score"], PERSON, {"predictions": [SECRET]}, of=1) == {"predictions": None}


def test_several_inputs_are_cleared_each_by_its_own_columns():
    row = {"numbers": [30, SECRET, 180], "names": ["Doe"]}
    assert cleared(["income", "surname"], PERSON, {"instances": [row]}) == {
        "instances": [{"numbers": [30, None, 180], "names": [None]}]
    }


@pytest.mark.parametrize(
    "unreadable",
    [
        b"a,b,c,d\n1,4711.25,3,4\n",
        b"{",
        b"4711.25",
        {"instances": [[1, SECRET]]},
        {"inputs": [{"name": "other", "shape": [1, 4], "datatype": "FP32", "data": [1, SECRET, 3, 4]}]},
        {"inputs": [{"name": "features", "shape": [1, 5], "datatype": "FP32", "data": [1, SECRET, 3, 4, 5]}]},
        {"dataframe_split": {"columns": ["a"], "data": [[1, SECRET]]}},
        orjson.dumps({"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32"}]}) + b"\0\0\x80?",
    ],
)
def test_what_cannot_be_cleared_is_left_out(unreadable):
    assert cleared(["b"], MLP, unreadable) is None


ROW = st.fixed_dictionaries({name: st.integers(0, 9) | st.text("xyz", max_size=3) | st.none() for name in "abcd"})


@given(st.lists(ROW, min_size=1, max_size=4), st.sets(st.sampled_from("abcd")))
def test_all_forms_of_the_same_rows_keep_the_same(rows, names):
    """By name, by position and by column: what is left of each cell does not depend on the form."""
    wanted = [[None if name in names else row[name] for name in "abcd"] for row in rows]
    lists = [[row[name] for name in "abcd"] for row in rows]
    by_name = cleared(names, MLP, {"instances": rows})["instances"]
    assert [[row[name] for name in "abcd"] for row in by_name] == wanted
    assert cleared(names, MLP, {"instances": lists})["instances"] == wanted
    frame = {"columns": list("abcd"), "data": lists}
    assert cleared(names, MLP, {"dataframe_split": frame})["dataframe_split"]["data"] == wanted


def test_the_log_of_a_server_does_not_hold_what_is_redacted(plane, tmp_path):
    plane.grants()
    revision = plane.revision(onnx_models.mlp(tmp_path / "mlp.onnx"), MLP)
    plane.endpoint("digits.mlp", revision, log=LogPolicy(payloads=True, redact=("b", "green")))

    async def run():
        async with serving(plane) as running:
            for content in (b'{"instances": [[1, 4711.25, 3, 4]]}', b'{"instances": [[1, 4711.25]]}', b"{4711.25"):
                await running.client.post("/v2/models/digits.mlp/predict", content=content, headers=plane.bearer())

    asyncio.run(run())
    answered, wrong, broken = read_log(plane)
    assert json.loads(answered["inputs"]) == {"instances": [[1, None, 3, 4]]}
    assert [answer is None for answer in json.loads(answered["outputs"])["predictions"][0]] == [False, True, False]
    assert (wrong["status"], wrong["inputs"], broken["inputs"]) == (422, None, None)
    files = [plane.store.get_document(uri) for uri in plane.store.list_documents("prj_1/inference-log")]
    assert not any(b"4711" in content for content in files)
