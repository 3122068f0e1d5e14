"""The formats of the pool, and how fast a model is thought to be."""

import threading

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper, numpy_helper
from plane import MLP, ROUNDS, SCALE

from onnx_makers import ENDLESS
from raymill.serving.errors import ModelBroken, ModelFailed
from raymill.serving.formats import POOL_FORMATS, PROGRAM_FORMATS, RunHalted, loader_of, program_loader_of
from raymill.serving.formats.onnx import load
from raymill.serving.models.artifacts import ArtifactCache
from raymill.serving.pace import INLINE_S, Pace


def test_an_onnx_model_runs(tmp_path):
    model = loader_of("onnx")(onnx_models.scale(tmp_path / "m.onnx", 3.0), SCALE)
    assert model.run(["y"], {"x": np.array([[2.0]], np.float32)})[0].tolist() == [[6.0]]
    assert model.size_bytes > 0


def test_a_format_that_may_run_code_is_not_in_the_pool():
    for name in (*PROGRAM_FORMATS, "pickle", "..kernel.settings"):
        with pytest.raises(ModelBroken, match="pool"):
            loader_of(name)
    for name in ("pickle", "..kernel.settings"):
        with pytest.raises(ModelBroken, match="does not know"):
            program_loader_of(name)


def test_the_pools_formats_run_in_an_app_too(tmp_path):
    for name in POOL_FORMATS:
        assert program_loader_of(name) is loader_of(name)


def test_values_that_the_graph_refuses_are_the_clients_fault(tmp_path):
    model = load(onnx_models.mlp(tmp_path / "m.onnx"), MLP)
    with pytest.raises(ModelFailed):
        model.run(["probabilities"], {"features": np.ones((1, 5), np.float32)})


def test_a_run_that_is_ended_is_no_refusal_and_its_model_goes_on(tmp_path):
    model = load(onnx_models.rounds(tmp_path / "m.onnx"), ROUNDS)
    halt = model.halt()
    ending = threading.Timer(0.05, setattr, (halt, "terminate", True))
    ending.start()
    with pytest.raises(RunHalted):
        model.run(["y"], {"n": np.array([ENDLESS])}, halt)
    ending.join()
    assert model.run(["y"], {"n": np.array([3])}, model.halt())[0].tolist() == [3]


def test_a_loop_that_nothing_could_end_is_refused(tmp_path):
    always = helper.make_node("Constant", [], ["always"], value=numpy_helper.from_array(np.array(True)))
    shape = helper.make_node("Shape", ["count"], ["size"])
    for nodes, outputs in (([], ("goes_on", "count")), ([always, shape], ("always", "size"))):
        with pytest.raises(ModelBroken, match="Loop"):
            load(onnx_models.loop(tmp_path / "m.onnx", nodes, *outputs), ROUNDS)


def test_weights_in_other_files_are_not_read(plane, tmp_path):
    """Beside the artifact in the cache lies nothing, and onnxruntime refuses to leave its folder."""
    (tmp_path / "secret").write_bytes(b"\0" * 4)
    for location in (str(tmp_path / "secret"), "../../../secret", "beside", "../beside"):
        weight = TensorProto(name="factor", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": location, "offset": "0", "length": "4"}.items():
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "factor"], ["y"])],
            "graph",
            [value("x", TensorProto.FLOAT, ["n", 1])],
            [value("y", TensorProto.FLOAT, ["n", 1])],
            [weight],
        )
        path = tmp_path / "m.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString())
        cached = ArtifactCache(plane.store, tmp_path / "cache", max_bytes=2**20).fetch(plane.revision(path, SCALE))
        with pytest.raises(ModelBroken):
            load(cached, SCALE)


def test_onnx_files_are_what_onnx_says_they_are(tmp_path):
    onnx.checker.check_model(onnx.load(onnx_models.mlp(tmp_path / "m.onnx")))


def test_an_unmeasured_size_is_slow_and_a_measured_one_what_it_was():
    pace = Pace()
    assert not pace.is_quick(100)
    pace.learn(100, INLINE_S / 10)
    assert pace.is_quick(100)
    assert pace.is_quick(127)
    assert not pace.is_quick(128)


def test_one_slow_run_on_a_busy_machine_changes_nothing_and_lasting_slowness_does():
    pace = Pace()
    pace.learn(100, INLINE_S / 20)
    pace.learn(100, INLINE_S * 5)
    assert pace.is_quick(100)
    for _ in range(20):
        pace.learn(100, INLINE_S * 5)
    assert not pace.is_quick(100)
    for _ in range(5):
        pace.learn(100, INLINE_S / 20)
    assert pace.is_quick(100)


def test_a_model_that_is_distrusted_stays_slow():
    pace = Pace()
    pace.learn(100, INLINE_S / 20)
    pace.distrust()
    for _ in range(20):
        pace.learn(100, 0.0)
    assert not pace.is_quick(100)
