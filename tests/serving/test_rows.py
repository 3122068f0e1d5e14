"""Rows as MLflow's scoring server takes them mean the same as 'instances'."""

import json

import numpy as np
import pytest

from raymill.kernel.errors import UnreadableBody, ValidationFailed
from raymill.serving.protocol.instances import predict
from raymill.serving.protocol.tensors import Interface
from raymill.serving.protocol.v2 import Target
from raymill.serving.published.table import Signature

TABLE = {
    "inputs": [
        {"name": "numbers", "datatype": "FP32", "shape": [-1, 2], "columns": ["age", "joined"], "nullable": ["age"]},
        {"name": "counts", "datatype": "INT64", "shape": [-1, 1], "columns": ["visits"]},
        {"name": "words", "datatype": "BYTES", "shape": [-1, 1], "columns": ["city"], "nullable": ["city"]},
        {"name": "flags", "datatype": "BOOL", "shape": [-1, 1], "columns": ["member"]},
    ],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}
ROWS = [
    {"age": 31.5, "joined": 2.0, "visits": 3, "city": "Łódź, PL", "member": True},
    {"age": None, "joined": 4.0, "visits": -1, "city": None, "member": False},
]
NAMES = [*ROWS[0]]
LINES = [list(row.values()) for row in ROWS]
CSV = 'age,joined,visits,city,member\r\n31.5,2,3,"Łódź, PL",true\r\n,4.0,-1,,0\r\n'
PLAIN = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}


def feeds(body, signature=TABLE, content_type: bytes | None = None) -> dict[str, list]:
    target = Target("p.m", "1", Interface(Signature.model_validate(signature)))
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    question = predict(target, content, {b"content-type": content_type} if content_type else {})
    return {name: array.tolist() for name, array in question.feeds.items()}


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": NAMES, "data": LINES}},
        {"dataframe_split": {"columns": NAMES[::-1], "data": [line[::-1] for line in LINES], "index": [7, 9]}},
        {"dataframe_records": ROWS},
        {"inputs": {name: [row[name] for row in ROWS] for name in NAMES}},
        {"inputs": ROWS},
        {"instances": ROWS, "params": {}},
    ],
    ids=["split", "split, other order", "records", "inputs by column", "inputs by row", "instances"],
)
def test_every_form_of_a_table_means_the_same(body):
    assert json.dumps(feeds(body)) == json.dumps(feeds({"instances": ROWS}))


@pytest.mark.parametrize("content_type", [b"text/csv", b"text/csv; charset=utf-8"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_csv_means_the_same(content_type, mark):
    assert json.dumps(feeds(mark + CSV.encode(), content_type=content_type)) == json.dumps(feeds({"instances": ROWS}))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"dataframe_split": {"columns": [0, 1], "data": [[1, 2], [3, 4]]}}, None),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}, None),
        ({"dataframe_split": {"data": [[1, 2], [3, 4]]}}, None),
        ({"inputs": [[1, 2], [3, 4]]}, None),
        ({"inputs": {"x": [[1, 2], [3, 4]]}}, None),
        (b"a,b\n1,2\n3,4\n", b"text/csv"),
    ],
)
def test_without_names_in_the_signature_the_order_counts(body, content_type):
    assert feeds(body, PLAIN, content_type) == {"x": [[1, 2], [3, 4]]}


@pytest.mark.parametrize("text", ["nan", "", "NaN"])
def test_no_number_in_csv_is_an_empty_value(text):
    given = feeds(CSV.replace("31.5", text).encode(), content_type=b"text/csv")
    assert np.isnan(given["numbers"][0][0])


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "exactly one"),
        ({"instances": ROWS, "inputs": ROWS}, "exactly one"),
        ({"instances": ROWS, "params": {"temperature": 1}}, "params"),
        ({"dataframe_split": {"columns": NAMES}}, "data"),
        ({"dataframe_split": {"columns": NAMES, "data": []}}, "at least one row"),
        ({"dataframe_split": {"columns": NAMES, "data": [[1]]}}, "Row 0"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 1]]}}, "twice"),
        ({"dataframe_split": {"columns": "ab", "data": [[1, 1]]}}, "list"),
        ({"inputs": {"age": [1, 2], "joined": [1]}}, "one length"),
        ({"inputs": {"age": [1], "joined": [1]}}, "'visits'"),
        ({"dataframe_records": [{**ROWS[0], "shoe": 44}]}, "'shoe'"),
        ({"dataframe_records": []}, "at least one row"),
    ],
)
def test_what_is_no_table_is_refused(body, word):
    with pytest.raises(ValidationFailed, match=word):
        feeds(body)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (CSV.replace("31.5", "old").encode(), "row 0, column 'age'"),
        (CSV.replace("-1", "1.5").encode(), "row 1, column 'visits'"),
        (CSV.replace("true", "maybe").encode(), "row 0, column 'member'"),
        (CSV.replace(",true", "").encode(), "Row 0"),
        (b"age,joined\n", "at least one row"),
    ],
)
def test_csv_that_does_not_fit_is_refused_by_row_and_column(body, word):
    with pytest.raises(ValidationFailed, match=word):
        feeds(body, content_type=b"text/csv")


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b'a,b\n"1,2\n'])
def test_what_is_no_csv_is_unreadable(body):
    with pytest.raises(UnreadableBody, match="CSV"):
        feeds(body, content_type=b"text/csv")
