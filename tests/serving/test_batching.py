"""When joining requests pays, and that their rows come back to whom they belong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymill.serving.models.batching import Gain, RowsEntangled, can_join, join, part, rows_of, shape_of
from raymill.serving.protocol.tensors import Interface
from raymill.serving.protocol.v2 import Answer, Question
from raymill.serving.published.table import Signature


class Asked(Question):
    def answer(self, arrays):
        return Answer(b"")


def interface(*shapes: list[int]) -> Interface:
    specs = [{"name": f"x{i}", "datatype": "FP32", "shape": shape} for i, shape in enumerate(shapes)]
    return Interface(Signature.model_validate({"inputs": specs, "outputs": specs}))


def learned(per_call: float, per_row: float, rows: list[int]) -> Gain:
    gain = Gain()
    for count in rows:
        gain.learn(count, per_call + count * per_row)
    return gain


def test_joining_pays_where_a_call_costs_more_than_its_rows():
    assert learned(5e-3, 1e-5, [1, 2, 1, 4, 8] * 4).pays()


def test_joining_does_not_pay_where_the_rows_cost_everything():
    assert not learned(0.0, 5e-3, [1, 2, 1, 4, 8] * 4).pays()


def test_joining_is_tried_until_calls_of_different_length_were_seen():
    assert learned(0.0, 5e-3, [1] * 100).pays()
    assert learned(0.0, 5e-3, [1, 2]).pays()


def test_joining_is_tried_again_after_a_while_and_a_model_that_changed_is_found_out():
    gain = learned(0.0, 5e-3, [1, 2, 4, 8] * 4)
    answers = [gain.pays() for _ in range(1001)]
    assert not any(answers)
    assert gain.pays()
    for count in [1, 2, 4, 8] * 4:
        gain.learn(count, 5e-3)
    assert gain.pays()


@given(st.lists(st.lists(st.integers(-9, 9), max_size=4), min_size=1, max_size=8))
def test_every_request_gets_its_own_rows_back(requests):
    asked = [Asked({"x": np.array(rows, np.float32).reshape(-1, 1)}, ["y"]) for rows in requests]
    doubled = [2 * join(asked)["x"]]
    parts = part(doubled, [rows_of(question) for question in asked])
    assert [arrays[0].ravel().tolist() for arrays in parts] == [[2.0 * value for value in rows] for rows in requests]


def test_outputs_without_a_row_for_each_row_are_not_parted():
    for array in (np.ones(3), np.float32(1).reshape(())):
        with pytest.raises(RowsEntangled):
            part([array], [1, 1])


def test_only_tensors_whose_first_dimension_is_free_can_be_joined():
    assert can_join(interface([-1], [-1, 3]))
    assert not can_join(interface([-1, 3], [1, 3]))
    assert not can_join(interface([-1], []))


def test_requests_differ_by_the_outputs_they_ask_for_and_the_shape_of_a_row():
    def shape(outputs, *sizes):
        return shape_of(Asked({f"x{i}": np.ones(size) for i, size in enumerate(sizes)}, outputs))

    assert shape(["a"], (1, 3)) == shape(["a"], (7, 3))
    assert len({shape(["a"], (1, 3)), shape(["b"], (1, 3)), shape(["a"], (1, 4)), shape(["a"], (3,))}) == 4
    assert rows_of(Asked({"a": np.ones(2), "b": np.ones(3)}, [])) == 0
