"""The formats that are programs, as an app of the dedicated tier loads them."""

import zipfile

import numpy as np
import pytest

from raymill.serving.errors import ModelBroken, ModelFailed
from raymill.serving.formats import PROGRAM_FORMATS, program_loader_of
from raymill.serving.published.table import Signature, TensorSpec

DOUBLE = Signature(
    inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(
        TensorSpec(name="twice", datatype="FP32", shape=(-1, 2)),
        TensorSpec(name="sum", datatype="FP32", shape=(-1,)),
    ),
)
ROWS = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture(scope="module")
def doubler():
    """A torch module of two outputs."""
    import torch

    class Doubler(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x * 2, x.sum(1)

    return Doubler().eval()


def check_doubler(path, format_name):
    model = program_loader_of(format_name)(path, DOUBLE)
    total, twice = model.run(["sum", "twice"], {"x": ROWS})
    assert (total.tolist(), twice.tolist()) == ([3, 7], [[2, 4], [6, 8]])
    assert model.run(["sum"], {"x": np.frombuffer(ROWS.tobytes(), np.float32).reshape(2, 2)})[0].tolist() == [3, 7]
    assert model.size_bytes > 0
    return model


def test_torchscript_runs(tmp_path, doubler):
    import torch

    torch.jit.save(torch.jit.script(doubler), tmp_path / "artifact")
    model = check_doubler(tmp_path / "artifact", "torchscript")
    with pytest.raises(ModelFailed, match="Dimension out of range"):
        model.run(["sum"], {"x": np.ones(2, np.float32)})


def test_an_exported_program_runs(tmp_path, doubler):
    import torch

    rows = torch.export.Dim("rows")
    program = torch.export.export(doubler, (torch.ones(3, 2),), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "model.pt2")
    check_doubler((tmp_path / "model.pt2").rename(tmp_path / "artifact"), "torch-export")


def test_a_program_that_answers_less_than_its_signature_says_fails(tmp_path):
    import torch

    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.ones(2, 2)), tmp_path / "artifact")
    with pytest.raises(ModelFailed, match=r"lacks the outputs \['sum'\]"):
        program_loader_of("torchscript")(tmp_path / "artifact", DOUBLE).run(["twice"], {"x": ROWS})


def test_torch_takes_no_texts(tmp_path):
    import torch

    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.ones(2, 2)), tmp_path / "artifact")
    texts = DOUBLE.model_copy(update={"inputs": (TensorSpec(name="x", datatype="BYTES", shape=(-1,)),)})
    with pytest.raises(ModelBroken, match="BYTES"):
        program_loader_of("torchscript")(tmp_path / "artifact", texts)


def test_skops_gives_classes_and_probabilities(tmp_path):
    import skops.io
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier().fit(ROWS, ["low", "high"])
    skops.io.dump(tree, tmp_path / "artifact")
    signature = DOUBLE.model_copy(
        update={
            "outputs": (
                TensorSpec(name="label", datatype="BYTES", shape=(-1,)),
                TensorSpec(name="probabilities", datatype="FP64", shape=(-1, 2)),
            )
        }
    )
    model = program_loader_of("skops")(tmp_path / "artifact", signature)
    label, shares = model.run(["label", "probabilities"], {"x": ROWS})
    assert (label.tolist(), shares.tolist()) == (["low", "high"], [[0, 1], [1, 0]])
    with pytest.raises(ModelFailed):
        model.run(["label"], {"x": np.ones((1, 7), np.float32)})
    wrong = DOUBLE.model_copy(update={"outputs": (TensorSpec(name="transformed", datatype="FP32", shape=(-1,)),)})
    with pytest.raises(ModelBroken, match="transform"):
        program_loader_of("skops")(tmp_path / "artifact", wrong)


def test_keras_and_its_saved_model_run(tmp_path):
    keras = pytest.importorskip("keras")
    given = keras.Input((2,), name="x")
    total = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="sum")(given)
    network = keras.Model(given, total)
    signature = DOUBLE.model_copy(update={"outputs": (TensorSpec(name="sum", datatype="FP32", shape=(-1, 1)),)})
    network.save(tmp_path / "model.keras")
    artifact = (tmp_path / "model.keras").rename(tmp_path / "artifact")
    assert program_loader_of("keras")(artifact, signature).run(["sum"], {"x": ROWS})[0].tolist() == [[3], [7]]

    network.export(tmp_path / "saved", verbose=False)
    with zipfile.ZipFile(tmp_path / "saved.zip", "w") as archive:
        for path in (tmp_path / "saved").rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    own = signature.model_copy(update={"outputs": (TensorSpec(name="output_0", datatype="FP32", shape=(-1, 1)),)})
    model = program_loader_of("saved-model")(tmp_path / "saved.zip", own)
    assert model.run(["output_0"], {"x": ROWS})[0].tolist() == [[3], [7]]
    with pytest.raises(ModelFailed, match="sum"):
        program_loader_of("saved-model")(tmp_path / "saved.zip", signature).run(["sum"], {"x": ROWS})


@pytest.mark.parametrize("name", PROGRAM_FORMATS)
def test_a_file_that_is_none_is_broken(tmp_path, name):
    if name in ("keras", "saved-model"):
        pytest.importorskip("tensorflow")
    (tmp_path / "artifact").write_bytes(b"no model at all")
    with pytest.raises(ModelBroken):
        program_loader_of(name)(tmp_path / "artifact", DOUBLE)
