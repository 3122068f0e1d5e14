"""Open Inference Protocol v2 and the simple form, between JSON, binary tensors and arrays."""

import json
from functools import partial

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raymill.kernel.errors import RaymillError, ValidationFailed
from raymill.serving.errors import InputRefused, ModelFailed, RequestRefused
from raymill.serving.formats import DTYPES
from raymill.serving.protocol import instances
from raymill.serving.protocol import v2 as protocol
from raymill.serving.protocol.tensors import Interface
from raymill.serving.protocol.v2 import Answer, Target
from raymill.serving.protocol.wording import AT_ONCE, with_outputs, with_predictions
from raymill.serving.published.table import Signature

NUMERIC = [name for name in DTYPES if name != "BYTES"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


class Echo:
    """A model that gives its inputs back under their own names."""

    size_bytes = 0

    def run(self, outputs, feeds):
        return [feeds[name] for name in outputs]


def answer_of(codec, aim: Target, model: Echo, body: bytes, json_length: int | None) -> Answer:
    headers = {} if json_length is None else {protocol.JSON_LENGTH: b"%d" % json_length}
    question = codec(aim, body, headers)
    return question.answer(model.run(question.outputs, question.feeds))


infer, predict = partial(answer_of, protocol.infer), partial(answer_of, instances.predict)


def target(*tensors: tuple[str, str, list[int]], **columns: list[str]) -> Target:
    specs = [
        {"name": name, "datatype": datatype, "shape": shape, "columns": columns.get(name)}
        for name, datatype, shape in tensors
    ]
    return Target("p.m", "3", Interface(Signature.model_validate({"inputs": specs, "outputs": specs})))


def elements(datatype: str) -> st.SearchStrategy:
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        return TEXT
    if dtype.kind == "f":
        return st.floats(width=dtype.itemsize * 8, allow_nan=False, allow_infinity=False)
    return hnp.from_dtype(dtype)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    datatype = draw(st.sampled_from([*DTYPES]))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
    return datatype, draw(hnp.arrays(DTYPES[datatype], shape, elements=elements(datatype)))


@given(tensors(), st.booleans())
@example(("UINT64", np.array([0, 2**63], np.uint64)), False)
def test_json_tensors_come_back_as_they_went(tensor, nested):
    datatype, array = tensor
    data = array.tolist() if nested else array.ravel().tolist()
    body = {"inputs": [{"name": "x", "shape": array.shape, "datatype": datatype, "data": data}], "id": "7"}
    answer = infer(target(("x", datatype, [-1] * array.ndim)), Echo(), json.dumps(body).encode(), None)
    document = json.loads(answer.body)
    assert answer.json_length is None
    assert (document["model_name"], document["model_version"], document["id"]) == ("p.m", "3", "7")
    output = document["outputs"][0]
    assert (output["shape"], output["datatype"]) == (list(array.shape), datatype)
    back = np.array(output["data"], dtype=array.dtype).reshape(array.shape)
    np.testing.assert_array_equal(back, array)


def binary_request(array: np.ndarray, datatype: str, **more) -> tuple[bytes, int]:
    if datatype == "BYTES":
        encoded = [value.encode() for value in array.ravel()]
        raw = b"".join(len(value).to_bytes(4, "little") + value for value in encoded)
    else:
        raw = array.tobytes()
    tensor = {"name": "x", "shape": array.shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + raw, len(head)


@given(tensors())
def test_binary_tensors_come_back_as_they_went(tensor):
    datatype, array = tensor
    body, length = binary_request(array, datatype, parameters={"binary_data_output": True})
    answer = infer(target(("x", datatype, [-1] * array.ndim)), Echo(), body, length)
    output = json.loads(answer.body[: answer.json_length])["outputs"][0]
    assert "data" not in output
    assert answer.body[answer.json_length :] == body[length:]
    assert output["parameters"] == {"binary_data_size": len(body) - length}


@given(st.binary(max_size=200), st.integers(0, 200) | st.none())
def test_whatever_arrives_is_answered_or_refused(body, json_length):
    for codec in (infer, predict):
        with pytest.raises(RaymillError):
            codec(target(("x", "FP32", [-1, 2])), Echo(), body, json_length)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=12,
)


@given(JSON, JSON, JSON, JSON, JSON)
def test_any_json_in_any_field_is_answered_or_refused(name, shape, datatype, data, parameters):
    tensor = {"name": name, "shape": shape, "datatype": datatype, "data": data, "parameters": parameters}
    near = {"name": "x", "shape": [2], "datatype": "FP32", "data": data, "parameters": parameters}
    for document in ({"inputs": [tensor]}, {"inputs": [near], "outputs": name}, {"inputs": data, "parameters": shape}):
        try:
            infer(target(("x", "FP32", [-1])), Echo(), json.dumps(document).encode(), None)
        except ValidationFailed:
            continue


@given(JSON)
def test_any_json_as_instances_is_answered_or_refused(instances):
    for aim in (
        target(("x", "FP32", [-1, 2]), x=["a", "b"]),
        target(("x", "INT64", [-1])),
        target(("a", "FP32", [-1]), ("b", "BYTES", [-1])),
    ):
        try:
            predict(aim, Echo(), json.dumps({"instances": instances}).encode(), None)
        except ValidationFailed:
            continue


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT64", [1.5]),
        ("INT64", [True]),
        ("INT64", ["1"]),
        ("INT64", [2**63]),
        ("INT8", [128]),
        ("UINT8", [-1]),
        ("UINT64", [-1]),
        ("UINT64", [1.5]),
        ("UINT64", [2**63, -1]),
        ("FP32", [True]),
        ("FP32", ["1.0"]),
        ("FP32", [None]),
        ("FP32", [3.5e38]),
        ("FP16", [70000.0]),
        ("BOOL", [1]),
        ("BYTES", [1]),
        ("BYTES", [["a"], "b"]),
        ("BYTES", [None]),
    ],
)
def test_values_are_never_bent_to_fit(datatype, data):
    with pytest.raises(InputRefused) as refused:
        target(("x", datatype, [-1])).interface.inputs["x"].array(data)
    assert refused.value.details == {"input": "x"}


@pytest.mark.parametrize("datatype", NUMERIC)
def test_an_empty_batch_is_a_batch(datatype):
    assert target(("x", datatype, [-1])).interface.inputs["x"].array([]).dtype == DTYPES[datatype]


@pytest.mark.parametrize("size", [-1, 1000, "8", True, 7])
def test_binary_sizes_that_are_wrong_are_refused(size):
    body, length = binary_request(np.ones(2, np.float32), "FP32")
    head = body[:length].replace(b'"binary_data_size": 8', b'"binary_data_size": ' + json.dumps(size).encode())
    with pytest.raises(InputRefused):
        infer(target(("x", "FP32", [-1])), Echo(), head + body[length:], len(head))


def test_bytes_after_the_last_tensor_are_refused():
    body, length = binary_request(np.ones(2, np.float32), "FP32")
    with pytest.raises(RequestRefused, match="1 bytes"):
        infer(target(("x", "FP32", [-1])), Echo(), body + b"x", length)


@pytest.mark.parametrize("raw", [b"\x05\x00\x00\x00abc", b"\x01\x00", b"\x02\x00\x00\x00\xff\xff"])
def test_binary_strings_that_are_cut_or_not_utf8_are_refused(raw):
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(InputRefused):
        infer(target(("x", "BYTES", [-1])), Echo(), head + raw, len(head))


def test_one_output_may_be_binary_beside_one_in_json():
    array = [1.0, 2.0]
    document = {
        "inputs": [{"name": name, "shape": [2], "datatype": "FP32", "data": array} for name in ("a", "b")],
        "outputs": [{"name": "b", "parameters": {"binary_data": True}}, {"name": "a"}],
    }
    aim = target(("a", "FP32", [-1]), ("b", "FP32", [-1]))
    answer = infer(aim, Echo(), orjson.dumps(document), None)
    outputs = json.loads(answer.body[: answer.json_length])["outputs"]
    assert [output["name"] for output in outputs] == ["b", "a"]
    assert outputs[1]["data"] == array
    assert np.frombuffer(answer.body[answer.json_length :], np.float32).tolist() == array


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1)
)
def test_rows_as_lists_and_as_objects_mean_the_same(rows):
    aim = target(("x", "FP32", [-1, 3]), x=["a", "b", "c"])
    keyed = [{"c": row[2], "a": row[0], "b": row[1]} for row in rows]
    answers = [predict(aim, Echo(), orjson.dumps({"instances": given}), None).body for given in (rows, keyed)]
    assert answers[0] == answers[1]
    np.testing.assert_array_equal(
        np.array(json.loads(answers[0])["predictions"], np.float32), np.array(rows, np.float32)
    )


def test_strings_are_predicted_as_strings():
    answer = predict(target(("x", "BYTES", [-1])), Echo(), b'{"instances": ["a", "b"]}', None)
    assert json.loads(answer.body) == {"predictions": ["a", "b"]}


def test_rows_keyed_by_column_need_columns():
    with pytest.raises(InputRefused, match="names no columns"):
        predict(target(("x", "FP32", [-1, 1])), Echo(), b'{"instances": [{"a": 1}]}', None)


def test_outputs_that_are_not_one_row_per_instance_are_sent_to_infer():
    class Sums(Echo):
        def run(self, outputs, feeds):
            return [np.ones(1)] * len(outputs)

    aim = target(("a", "FP32", [-1]), ("b", "FP32", [-1]))
    with pytest.raises(ModelFailed, match="infer"):
        predict(aim, Sums(), b'{"instances": [{"a": 1, "b": 2}, {"a": 1, "b": 2}]}', None)


def test_predict_takes_no_binary_tensors():
    with pytest.raises(RequestRefused, match="binary"):
        predict(target(("x", "FP32", [-1])), Echo(), b'{"instances": [1]}', 5)


LABELLED = Target(
    "p.m",
    "1",
    Interface(
        Signature.model_validate(
            {
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
                "outputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
                "labels": ["red", "green", "blue"],
            }
        )
    ),
)


def classified(aim: Target, rows: list[list[float]], count: object) -> dict:
    tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": rows}
    wanted = [{"name": "x", "parameters": {"classification": count}}]
    answer = infer(aim, Echo(), orjson.dumps({"inputs": [tensor], "outputs": wanted}), None)
    return json.loads(answer.body)["outputs"][0]


def test_the_likeliest_classes_come_with_index_and_label():
    output = classified(LABELLED, [[0.25, 0.5, 0.125], [1.0, 0.0, 2.0]], 2)
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == ["0.5:1:green", "0.25:0:red", "2.0:2:blue", "1.0:0:red"]


def test_classes_without_labels_and_more_than_there_are():
    assert classified(target(("x", "FP32", [-1, -1])), [[0.0, 1.0]], 9)["data"] == ["1.0:1", "0.0:0"]


@pytest.mark.parametrize("count", [-1, "2", 1.5, None, True])
def test_a_number_of_classes_that_is_none_is_refused(count):
    with pytest.raises(RequestRefused, match="classification"):
        classified(LABELLED, [[0.0, 1.0, 2.0]], count)


@pytest.mark.parametrize(
    ("document", "parameter"),
    [
        ({"parameters": {"sequence_id": 3}}, "sequence_id"),
        ({"parameters": {"priority": 1}}, "priority"),
        ({"parameters": {"timeout": 5}}, "timeout"),
        ({"outputs": [{"name": "x", "parameters": {"shared_memory_region": "r"}}]}, "shared_memory_region"),
        ({"inputs": [{"parameters": {"shared_memory_region": "r"}}]}, "shared_memory_region"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(document, parameter):
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}
    inputs = [{**tensor, **document.pop("inputs", [{}])[0]}]
    with pytest.raises(RequestRefused, match=parameter):
        infer(target(("x", "FP32", [-1])), Echo(), orjson.dumps({"inputs": inputs, **document}), None)


def test_parameters_of_other_servers_that_change_nothing_are_let_pass():
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0], "parameters": {"content_type": "np"}}
    document = {"inputs": [tensor], "parameters": {"content_type": "pd"}}
    assert infer(target(("x", "FP32", [-1])), Echo(), orjson.dumps(document), None)


LONG = AT_ONCE + 3


def in_one_piece(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


@pytest.mark.parametrize("shape", [(LONG,), (LONG // 3 + 1, 3), (2, LONG), (1, LONG, 1)])
def test_long_answers_say_in_pieces_what_short_ones_say_in_one(shape):
    array = np.random.default_rng(1).random(shape, np.float32)
    assert with_predictions(array) == in_one_piece({"predictions": array})
    short = {"name": "n", "datatype": "FP32", "shape": (2,), "data": np.ones(2, np.float32)}
    tensors = [
        short,
        {"name": "x", "datatype": "FP32", "shape": shape, "data": array.ravel()},
        {"name": "b", "datatype": "FP32", "shape": (1,), "parameters": {"binary_data_size": 4}},
        {"name": "t", "datatype": "BYTES", "shape": (1,), "data": ["a"]},
    ]
    document = {"model_name": "p.m", "model_version": "1"}
    assert with_outputs(document, tensors) == in_one_piece(document | {"outputs": tensors})


def test_a_long_answer_is_the_models():
    spec = {"name": "x", "datatype": "INT32", "shape": [-1]}
    aim = Target("p.m", "1", Interface(Signature.model_validate({"inputs": [spec], "outputs": [spec]})))
    values = list(range(LONG))
    body = json.dumps({"inputs": [{"name": "x", "datatype": "INT32", "shape": [LONG], "data": values}], "id": "7"})
    answer = json.loads(infer(aim, Echo(), body.encode(), None).body)
    assert (answer["id"], answer["outputs"][0]["data"]) == ("7", values)
    assert json.loads(predict(aim, Echo(), json.dumps({"instances": values}).encode(), None).body) == {
        "predictions": values
    }
