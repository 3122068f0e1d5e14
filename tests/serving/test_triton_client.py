"""The unmodified tritonclient against the model server on a real socket."""

import threading
from collections.abc import Iterator

import numpy as np
import onnx_models
import pytest
import tritonclient.http as triton
import uvicorn
from plane import MLP
from test_server import KINDS, expected

from raymill.serving.parts import Parts
from raymill.serving.published.table import Signature, TensorSpec
from raymill.serving.server import ModelServer
from timing import until

HALVES = TensorSpec(name="x", datatype="FP16", shape=(-1, 2))
HALF = Signature(inputs=(HALVES,), outputs=(HALVES.model_copy(update={"name": "y"}),))
ROWS = np.array([[0.1, 0.2, 0.3, 0.4], [1.0, -1.0, 2.0, 0.5]], np.float32)


@pytest.fixture
def address(digits, tmp_path) -> Iterator[str]:
    """Address of a model server that serves `digits.mlp`, `a.kinds` and `a.half`."""
    digits.endpoint("a.half", digits.revision(onnx_models.half(tmp_path / "half.onnx"), HALF), endpoint_id="dep_3")
    digits.endpoint("a.kinds", digits.revision(onnx_models.identities(tmp_path / "kinds.onnx"), KINDS))
    config = uvicorn.Config(ModelServer(Parts.open(digits.settings)), port=0, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    until(lambda: server.started, within_s=10, what="the server listens")
    yield f"127.0.0.1:{socket.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def client(address) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(address)
    yield client
    client.close()


def features(*, binary: bool) -> triton.InferInput:
    tensor = triton.InferInput("features", ROWS.shape, "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return tensor


@pytest.mark.parametrize("sent", [True, False], ids=["binary in", "json in"])
@pytest.mark.parametrize("wanted", [True, False, None], ids=["binary out", "json out", "default out"])
def test_infer(client, digits, tmp_path, sent, wanted):
    outputs = None if wanted is None else [triton.InferRequestedOutput("probabilities", binary_data=wanted)]
    answer = client.infer(
        "digits.mlp", [features(binary=sent)], outputs=outputs, request_id="9", headers=digits.bearer()
    )
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected(tmp_path, ROWS), rtol=1e-6)
    assert answer.get_response()["id"] == "9"


def test_strings_and_flags(client, digits):
    arrays = {
        "number": np.array([1, -2], np.int64),
        "word": np.array([b"one", "zwö".encode()], object),
        "flag": np.array([[True, False], [False, True]]),
    }
    inputs = []
    for (name, array), datatype in zip(arrays.items(), ("INT64", "BYTES", "BOOL"), strict=True):
        inputs.append(triton.InferInput(name, array.shape, datatype))
        inputs[-1].set_data_from_numpy(array)
    answer = client.infer("a.kinds", inputs, headers=digits.bearer())
    for name, array in arrays.items():
        assert answer.as_numpy(f"{name}_out").tolist() == array.tolist()


def test_health_and_metadata(client, digits):
    headers = digits.bearer()
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits.mlp", headers=headers)
    assert client.is_model_ready("digits.mlp", "1", headers=headers)
    assert not client.is_model_ready("digits.gone", headers=headers)
    assert client.get_server_metadata()["name"] == "raymill"
    assert client.get_model_metadata("digits.mlp", headers=headers)["inputs"][0]["name"] == MLP.inputs[0].name


def test_classification(client, digits, tmp_path):
    wanted = [triton.InferRequestedOutput("probabilities", class_count=1)]
    answer = client.infer("digits.mlp", [features(binary=True)], outputs=wanted, headers=digits.bearer())
    best = expected(tmp_path, ROWS).argmax(axis=1)
    found = [text.decode().split(":")[1:] for text in answer.as_numpy("probabilities").ravel()]
    assert found == [[str(index), MLP.labels[index]] for index in best]


def test_half_precision_goes_and_comes(client, digits):
    array = np.array([[1.5, -2.25]], np.float16)
    tensor = triton.InferInput("x", array.shape, "FP16")
    tensor.set_data_from_numpy(array)
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("y", binary_data=binary)]
        answer = client.infer("a.half", [tensor], outputs=wanted, headers=digits.bearer())
        output = answer.get_output("y")
        given = answer.as_numpy("y") if binary else np.array(output["data"]).reshape(output["shape"])
        assert given.tolist() == array.tolist()


def test_configuration_and_index(client, digits):
    headers = digits.bearer()
    configuration = client.get_model_config("digits.mlp", headers=headers)
    assert configuration["input"] == [{"name": "features", "data_type": "TYPE_FP32", "dims": [-1, 4]}]
    assert configuration == client.get_model_config("digits.mlp", "1", headers=headers)
    index = client.get_model_repository_index(headers=headers)
    assert [(entry["name"], entry["state"]) for entry in index] == [
        (name, "READY") for name in ("a.half", "a.kinds", "digits.mlp")
    ]
    assert client.get_model_repository_index(headers=digits.bearer("usr_stranger")) == []


def test_extensions_that_are_not_offered_say_so(client, digits):
    for call in (
        lambda: client.load_model("digits.mlp"),
        lambda: client.unload_model("digits.mlp"),
        lambda: client.get_trace_settings(),
        lambda: client.get_log_settings(),
        lambda: client.get_system_shared_memory_status(),
    ):
        with pytest.raises(triton.InferenceServerException, match="does not offer"):
            call()


@pytest.mark.parametrize("extra", [{"priority": 1}, {"timeout": 5}, {"sequence_id": 7, "sequence_start": True}])
def test_settings_that_cannot_be_honoured_are_refused(client, digits, extra):
    with pytest.raises(triton.InferenceServerException, match="not offered"):
        client.infer("digits.mlp", [features(binary=True)], headers=digits.bearer(), **extra)


def test_errors_carry_their_message(client, digits):
    with pytest.raises(triton.InferenceServerException, match=r"no endpoint 'digits\.gone'"):
        client.infer("digits.gone", [features(binary=True)], headers=digits.bearer())
    with pytest.raises(triton.InferenceServerException, match="Authorization"):
        client.infer("digits.mlp", [features(binary=True)])
