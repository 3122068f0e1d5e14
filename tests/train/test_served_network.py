"""What a trainer writes is what model servers answer with: raw rows of a table, by the names of its columns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
import torch
from tables import mixed_rows, with_targets

from raymill.kernel.errors import ValidationFailed
from raymill.registry.formats import check_signature
from raymill.registry.onnx_graph import read_signature
from raymill.registry.schemas import Signature
from raymill.serving.formats.onnx import load
from raymill.serving.protocol.instances import predict
from raymill.serving.protocol.tensors import Interface
from raymill.serving.protocol.v2 import Target
from raymill.serving.published.table import Signature as ServedSignature
from raymill.train.trainers.columns import Task
from raymill.train.trainers.onnx_network import check_network, write_network
from raymill.train.trainers.tabular import TabularProblem, read_problem
from raymill.train.trainers.tabular_network import TabularNetwork

LEFT_OUT = {"key": "an id", "kind": "predicted"}


def network_of(problem: TabularProblem) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the weights of an untrained network, and its answers to all rows."""
    torch.manual_seed(2)
    network = TabularNetwork(*problem.scaling(), [8], problem.objective.width)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    weights = problem.objective.finish(weights, "layers.1")
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    with torch.no_grad():
        return weights, problem.objective.answers(network(torch.from_numpy(problem.features))).numpy()


class Served:
    """A network on disk and its interface, asked as a client asks."""

    def __init__(self, folder: Path, table: pa.Table, target: str, task: Task) -> None:
        self.problem = read_problem(table, target=target, held_out_share=0.1, seed=0, task=task)
        weights, self.answers = network_of(self.problem)
        path, output = folder / "model.onnx", self.problem.objective.output
        write_network(weights, path, encoder=self.problem.encoder, output=output)
        check_network(path, self.problem.encoder.feeds(self.problem.sample), self.answers, output=output)
        shape = [-1] if task == "regression" else [-1, self.problem.objective.width]
        document = {
            "inputs": self.problem.encoder.inputs(),
            "outputs": [{"name": output, "datatype": "FP32", "shape": shape}],
            "ignored": LEFT_OUT,
        }
        kept = check_signature(Signature.model_validate(document), read_signature(path)).model_dump()
        signature = ServedSignature.model_validate(kept)
        self.model = load(path, signature)
        self.target = Target("t", "1", Interface(signature))

    def rows(self) -> list[dict[str, Any]]:
        """Return the table's rows as JSON has them."""
        rows = self.problem.sample.to_pylist()
        return json.loads(json.dumps(rows, default=lambda value: value.isoformat()))  # type: ignore[no-any-return]

    def predict(self, rows: list[Any]) -> Any:
        question = predict(self.target, orjson.dumps({"instances": rows}), {})
        return json.loads(question.answer(self.model.run(question.outputs, question.feeds)).body)["predictions"]


def test_the_typical_row_is_answered_and_is_no_row_of_the_table(served: Served) -> None:
    problem = served.problem
    row = problem.encoder.typical_row(problem.sample)
    assert list(row) == problem.encoder.columns
    assert len(served.predict([json.loads(json.dumps(row))])) == 1
    assert row not in served.rows()
    cities = [str(city or "") for city in problem.sample["city"].to_pylist()]
    assert cities.count(row["city"]) == max(map(cities.count, cities))
    for name in ("size", "age", "day", "at", "clock"):
        known = sorted(each[name] for each in served.rows() if each[name] is not None)
        assert row[name] == known[(len(known) - 1) // 2], name


def test_a_column_without_any_value_is_null_in_the_typical_row(table: pa.Table) -> None:
    encoder = read_problem(table, target="kind", held_out_share=0.1, seed=0, task="classification").encoder
    empty = pa.nulls(table.num_rows, table["age"].type)
    assert encoder.typical_row(table.set_column(table.column_names.index("age"), "age", empty))["age"] is None


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return with_targets(mixed_rows()).drop_columns(["same"])


@pytest.fixture
def served(tmp_path: Path, table: pa.Table) -> Served:
    return Served(tmp_path, table, "kind", "classification")


def test_raw_rows_by_name_give_the_networks_answers(served: Served) -> None:
    assert [port.datatype for port in served.target.interface.inputs.values()] == ["FP32", "FP64", "BYTES"]
    assert np.array(served.predict(served.rows())) == pytest.approx(served.answers, abs=1e-5)


def test_a_regression_answers_one_number_per_row_in_the_targets_unit(tmp_path: Path, table: pa.Table) -> None:
    served = Served(tmp_path, table.drop_columns(["kind"]), "price", "regression")
    rows = [{name: value for name, value in row.items() if name != "price"} for row in served.rows()]
    answers = np.array(served.predict(rows))
    assert answers.shape == (len(rows),)
    assert answers == pytest.approx(served.answers, rel=1e-5)
    assert 1e5 < answers.mean() < 3e5


def test_texts_alone_and_dates_alone_make_a_network(tmp_path: Path, table: pa.Table) -> None:
    for name, columns in {"texts": ["city", "kind"], "days": ["day", "kind"]}.items():
        folder = tmp_path / name
        folder.mkdir()
        served = Served(folder, table.select(columns), "kind", "classification")
        assert np.array(served.predict(served.rows())) == pytest.approx(served.answers, abs=1e-5)


def test_a_column_that_was_empty_before_may_be_null_or_absent(served: Served) -> None:
    (row,) = served.rows()[:1]
    null = row | {"age": None, "city": None, "day": None}
    absent = {name: value for name, value in row.items() if name not in ("age", "city", "day")}
    assert served.predict([null]) == served.predict([absent])
    assert served.predict([row]) != served.predict([null])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"size": None}, "column 'size' is null"),
        ({"size": "big"}, "column 'size': the values must be numbers"),
        ({"age": "old"}, "column 'age': the values must be numbers"),
        ({"city": 7}, "column 'city': the values must be strings"),
        ({"clock": None}, "column 'clock' is null"),
        ({"day": "soon"}, "column 'day': 'soon' is no date"),
        ({"day": [1]}, "dates"),
        ({"colour": "red"}, "'colour'"),
        ({"size": ...}, "'size'"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_of_its_column(
    served: Served, changed: dict[str, Any], named: str
) -> None:
    (row,) = served.rows()[:1]
    asked = {name: value for name, value in (row | changed).items() if value is not ...}
    with pytest.raises(ValidationFailed, match=named):
        served.predict([row, asked])


def test_an_unknown_text_and_numbers_in_the_place_of_dates_are_answered(served: Served) -> None:
    (row,) = served.rows()[:1]
    first, second = served.predict([row | {"city": "Atlantis", "day": 19800}, row | {"day": "2024-03-18"}])
    assert len(first) == len(second) == 2
    assert served.predict([row | {"day": 19800.0}]) == served.predict([row | {"day": "2024-03-18"}])


def test_true_and_one_are_the_same_number(served: Served) -> None:
    (row,) = served.rows()[:1]
    assert served.predict([row | {"member": True}]) == served.predict([row | {"member": 1}])


def test_rows_without_names_are_refused_where_there_are_several_inputs(served: Served) -> None:
    with pytest.raises(ValidationFailed, match="object"):
        served.predict([[1, 2, 3]])
