"""The model server through its own door, without Valkey: routes, refusals, answers."""

import asyncio
import json
from datetime import UTC, datetime

import httpx
import numpy as np
import onnx_models
import onnxruntime
import pytest
from plane import KEY, MLP, SCALE, VIEWER_KEY, Plane
from servers_in_process import serving

from raymill.kernel.errors import InternalError
from raymill.kernel.settings import ServingSettings
from raymill.serving.parts import Parts
from raymill.serving.published.grants import KeyGrant
from raymill.serving.published.table import AccessPolicy, Signature, TensorSpec
from raymill.serving.server import ModelServer

ROWS = [[0.1, 0.2, 0.3, 0.4], [1.0, -1.0, 2.0, 0.5]]
INFER = "/v2/models/digits.mlp/infer"


def expected(tmp_path, rows=ROWS):
    session = onnxruntime.InferenceSession(str(tmp_path / "mlp.onnx"))
    return session.run(None, {"features": np.array(rows, np.float32)})[0]


def body(**changes):
    tensor = {"name": "features", "shape": [2, 4], "datatype": "FP32", "data": ROWS}
    return {"inputs": [{**tensor, **changes}]}


def ask(plane: Plane, method: str, path: str, **kwargs) -> httpx.Response:
    async def run() -> httpx.Response:
        async with serving(plane) as running:
            return await running.client.request(method, path, **kwargs)

    return asyncio.run(run())


def assert_refused(answer: httpx.Response, status: int, type_: str, *, v2: bool = True) -> dict:
    assert answer.status_code == status, answer.text
    refusal = answer.json()
    assert refusal["type"] == type_
    assert set(refusal) == {"type", "message", "details", "request_id", "timestamp"} | ({"error"} if v2 else set())
    assert refusal["request_id"] == answer.headers["x-request-id"]
    if v2:
        assert refusal["error"] == refusal["message"]
    return refusal


def test_infer_answers_what_onnxruntime_answers(digits, tmp_path):
    answer = ask(digits, "POST", INFER, json={**body(), "id": "42"}, headers=digits.bearer())
    assert answer.status_code == 200
    assert answer.headers["x-raymill-revision"] == "1"
    document = answer.json()
    output = document.pop("outputs")[0]
    assert document == {"model_name": "digits.mlp", "model_version": "1", "id": "42"}
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 3])
    np.testing.assert_allclose(np.array(output["data"]).reshape(2, 3), expected(tmp_path), rtol=1e-6)


def test_flat_data_and_named_outputs_are_the_same(digits):
    async def run():
        async with serving(digits) as running:
            nested = await running.client.post(INFER, json=body(), headers=digits.bearer())
            flat = body(data=[value for row in ROWS for value in row]) | {"outputs": [{"name": "probabilities"}]}
            return nested.json(), (await running.client.post(INFER, json=flat, headers=digits.bearer())).json()

    nested, flat = asyncio.run(run())
    assert nested == flat


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}, {"authorization": f"bearer {KEY}"}],
    ids=["bearer", "x-api-key", "lower case"],
)
def test_an_api_key_works_like_a_token(digits, headers):
    assert ask(digits, "POST", INFER, json=body(), headers=headers).status_code == 200


def test_predict_takes_rows_as_lists_and_as_objects(digits, tmp_path):
    async def run():
        async with serving(digits) as running:
            answers = []
            for rows in (ROWS, [dict(zip("dcba", reversed(row), strict=True)) for row in ROWS]):
                url = "/v2/models/digits.mlp/predict"
                answers.append(await running.client.post(url, json={"instances": rows}, headers=digits.bearer()))
            return answers

    for answer in asyncio.run(run()):
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["predictions"]
        np.testing.assert_allclose(answer.json()["predictions"], expected(tmp_path), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"content": b"{not json"}, 400, "not JSON"),
        ({"content": b""}, 400, "not JSON"),
        ({"content": b"[1]"}, 422, "object"),
        ({"json": {}}, 422, "inputs"),
        ({"json": {"inputs": [1]}}, 422, "inputs"),
        ({"json": {"inputs": []}}, 422, "features"),
        ({"json": body(name="other")}, 422, "other"),
        ({"json": body(datatype="FP64")}, 422, "features"),
        ({"json": body(datatype="nonsense")}, 422, "features"),
        ({"json": body(shape=[2, 5])}, 422, "features"),
        ({"json": body(shape=[8])}, 422, "features"),
        ({"json": body(shape=[3, 4])}, 422, "features"),
        ({"json": body(shape=[-2, 4])}, 422, "features"),
        ({"json": body(shape="2,4")}, 422, "features"),
        ({"json": body(data=[[1, 2, 3, 4], [1, 2, 3]])}, 422, "features"),
        ({"json": body(data=[["a"] * 4] * 2)}, 422, "features"),
        ({"json": body(data=[["1"] * 4] * 2)}, 422, "features"),
        ({"json": body(data=[[None] * 4] * 2)}, 422, "features"),
        ({"json": body(data=[[1e300] * 4] * 2)}, 422, "features"),
        ({"json": body(data={"a": 1})}, 422, "features"),
        ({"json": body(data=None)}, 422, "features"),
        ({"json": {"inputs": body()["inputs"] * 2}}, 422, "twice"),
        ({"json": body() | {"outputs": [{"name": "nothing"}]}}, 422, "nothing"),
        ({"json": body() | {"outputs": [3]}}, 422, "output"),
        ({"json": body(), "headers": {"Inference-Header-Content-Length": "x"}}, 422, "Inference-Header"),
        ({"json": body(), "headers": {"Inference-Header-Content-Length": "99999"}}, 422, "Inference-Header"),
        ({"json": body(), "headers": {"Content-Encoding": "gzip"}}, 415, "compressed"),
    ],
)
def test_bad_input_is_refused_with_a_reason_and_the_server_lives(digits, changes, status, word):
    async def run():
        async with serving(digits) as running:
            headers = digits.bearer() | changes.pop("headers", {})
            bad = await running.client.post(INFER, headers=headers, **changes)
            good = await running.client.post(INFER, headers=digits.bearer(), json=body())
            return bad, good

    changes = dict(changes)
    bad, good = asyncio.run(run())
    refusal = assert_refused(bad, status, "VALIDATION_ERROR")
    assert word in refusal["message"]
    assert good.status_code == 200


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({}, "instances"),
        ({"instances": []}, "instances"),
        ({"instances": "x"}, "instances"),
        ({"instances": [[1, 2, 3]]}, "features"),
        ({"instances": [{"a": 1, "b": 2, "c": 3}]}, "'d'"),
        ({"instances": [{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}]}, "'e'"),
        ({"instances": [{"a": 1, "b": 2, "c": 3, "d": 4}, [1, 2, 3, 4]]}, "row 1"),
        ({"instances": [{"a": 1, "b": 2, "c": 3, "d": "x"}]}, "numbers"),
    ],
)
def test_bad_instances_are_refused(digits, document, word):
    answer = ask(digits, "POST", "/v2/models/digits.mlp/predict", json=document, headers=digits.bearer())
    assert word in assert_refused(answer, 422, "VALIDATION_ERROR")["message"]


def test_who_may_invoke(digits):
    digits.grants(
        "prj_2", members={"usr_other": {"endpoint:invoke"}}, keys={"rm_x": KeyGrant(id="k", permissions={"*"})}
    )
    expired = digits.token(now=datetime(2020, 1, 1, tzinfo=UTC))

    async def run():
        async with serving(digits) as running:
            answers = {}
            for name, headers in {
                "nobody": {},
                "other scheme": {"Authorization": "Basic abc"},
                "broken token": {"Authorization": "Bearer a.b.c"},
                "not ascii": [(b"authorization", "Bearer é".encode())],
                "expired": {"Authorization": f"Bearer {expired}"},
                "unknown key": {"X-API-Key": "rm_unknown"},
                "viewer": digits.bearer("usr_viewer"),
                "viewer key": {"X-API-Key": VIEWER_KEY},
                "stranger": digits.bearer("usr_other"),
                "foreign key": {"X-API-Key": "rm_x"},
            }.items():
                answers[name] = await running.client.post(INFER, json=body(), headers=headers)
            return answers

    answers = asyncio.run(run())
    for name in ("nobody", "other scheme", "broken token", "not ascii", "expired", "unknown key"):
        assert_refused(answers[name], 401, "AUTHENTICATION_ERROR")
        assert answers[name].headers["www-authenticate"] == "Bearer"
    for name in ("viewer", "viewer key"):
        refusal = assert_refused(answers[name], 403, "AUTHORIZATION_ERROR")
        assert refusal["details"] == {"permission": "endpoint:invoke"}
    for name in ("stranger", "foreign key"):
        assert_refused(answers[name], 404, "RESOURCE_NOT_FOUND")


def test_a_foreign_endpoint_looks_exactly_like_a_missing_one(digits):
    async def run():
        async with serving(digits) as running:
            stranger = digits.bearer("usr_stranger")
            return [
                (await running.client.post(f"/v2/models/{name}/infer", json=body(), headers=stranger)).json()["message"]
                for name in ("digits.mlp", "digits.gone")
            ]

    foreign, missing = asyncio.run(run())
    assert foreign.replace("mlp", "gone") == missing


@pytest.mark.parametrize(
    ("method", "path", "status", "type_"),
    [
        ("GET", INFER, 405, "VALIDATION_ERROR"),
        ("POST", "/v2/models/digits.mlp", 405, "VALIDATION_ERROR"),
        ("POST", "/v2", 405, "VALIDATION_ERROR"),
        ("GET", "/v2/models", 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/v2/models/digits.mlp/versions/9", 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/v2/models/digits.mlp/versions/x/ready", 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/v2/models/digits.mlp/nothing", 404, "RESOURCE_NOT_FOUND"),
        ("POST", "/v2/models/digits.mlp/versions/9/infer", 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/nothing/here", 404, "RESOURCE_NOT_FOUND"),
    ],
)
def test_paths_that_are_not_there(digits, method, path, status, type_):
    answer = ask(digits, method, path, headers=digits.bearer(), json=body() if method == "POST" else None)
    assert_refused(answer, status, type_, v2=path.startswith("/v2"))
    assert ("allow" in answer.headers) == (status == 405)


def test_the_open_paths(digits):
    async def run():
        async with serving(digits) as running:
            paths = ("/v2", "/v2/health/live", "/v2/health/ready", "/version", "/")
            return [await running.client.get(path) for path in paths]

    server, live, ready, version, root = asyncio.run(run())
    assert server.json()["name"] == "raymill"
    assert "binary_tensor_data" in server.json()["extensions"]
    assert (live.json(), ready.json()) == ({"live": True}, {"ready": True})
    assert version.json()["name"] == "raymill"
    assert version.json()["version"]
    assert (root.status_code, root.headers["location"]) == (307, "/console")


def test_metadata_needs_the_same_right_as_invoking(digits):
    async def run():
        async with serving(digits) as running:
            url = "/v2/models/digits.mlp"
            paths = (url, f"{url}/versions/1", f"{url}/ready", f"{url}/versions/1/ready")
            allowed = [await running.client.get(path, headers=digits.bearer()) for path in paths]
            return allowed, [(await running.client.get(path)).status_code for path in paths]

    (metadata, versioned, ready, version_ready), anonymous = asyncio.run(run())
    assert metadata.json() == versioned.json()
    assert metadata.json() == {
        "name": "digits.mlp",
        "versions": ["1"],
        "platform": "onnx_onnxruntime",
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
        "parameters": {"labels": ["red", "green", "blue"]},
    }
    assert ready.json() == version_ready.json() == {"name": "digits.mlp", "ready": True}
    assert anonymous == [401] * 4


def test_a_large_body_is_refused_before_and_while_it_arrives(tmp_path):
    plane = Plane(tmp_path / "home", serving=ServingSettings(max_body_bytes=1000))
    plane.grants()
    plane.endpoint("digits.mlp", plane.revision(onnx_models.mlp(tmp_path / "mlp.onnx"), MLP))

    async def pieces():
        for _ in range(20):
            yield b" " * 100

    async def run():
        async with serving(plane) as running:
            announced = await running.client.post(INFER, content=b" " * 1001, headers=plane.bearer())
            streamed = await running.client.post(INFER, content=pieces(), headers=plane.bearer())
            return announced, streamed, await running.client.post(INFER, json=body(), headers=plane.bearer())

    announced, streamed, good = asyncio.run(run())
    assert_refused(announced, 413, "VALIDATION_ERROR")
    assert_refused(streamed, 413, "VALIDATION_ERROR")
    assert good.status_code == 200


def test_a_body_in_pieces_is_put_together(digits):
    async def pieces():
        content = json.dumps(body()).encode()
        for start in range(0, len(content), 7):
            yield content[start : start + 7]

    assert ask(digits, "POST", INFER, content=pieces(), headers=digits.bearer()).status_code == 200


def test_the_request_id_is_taken_or_made(digits):
    async def run():
        async with serving(digits) as running:
            given = await running.client.get("/version", headers={"X-Request-ID": "my-request.1"})
            harmful = await running.client.get("/version", headers={"X-Request-ID": "a b"})
            return given, harmful

    given, harmful = asyncio.run(run())
    assert given.headers["x-request-id"] == "my-request.1"
    assert harmful.headers["x-request-id"].startswith("req_")


def scale_plane(plane, tmp_path, traffic, **more):
    plane.grants()
    revisions = [
        plane.revision(onnx_models.scale(tmp_path / f"{number}.onnx", float(number)), SCALE, number)
        for number in (1, 2)
    ]
    plane.endpoint("a.scale", *revisions, traffic=traffic, **more)


def test_traffic_is_split_by_request_and_the_header_tells_the_truth(plane, tmp_path):
    scale_plane(plane, tmp_path, {1: 75, 2: 25})

    async def run():
        async with serving(plane) as running:
            answers = [await running.infer("a.scale", [[1.0]], plane.bearer(), input="x") for _ in range(400)]
            pinned = await running.client.post(
                "/v2/models/a.scale/versions/2/predict", json={"instances": [3]}, headers=plane.bearer()
            )
            return answers, pinned

    answers, pinned = asyncio.run(run())
    factors = [answer.json()["outputs"][0]["data"][0] for answer in answers]
    assert factors == [float(answer.headers["x-raymill-revision"]) for answer in answers]
    assert 60 <= factors.count(2.0) <= 140
    assert pinned.json() == {"predictions": [[6.0]]}


def test_a_sticky_header_keeps_a_user_on_one_revision(plane, tmp_path):
    scale_plane(plane, tmp_path, {1: 50, 2: 50}, sticky_header="X-User")

    async def run():
        async with serving(plane) as running:
            revisions = {}
            for user in [f"user-{i}" for i in range(20)] * 3:
                headers = plane.bearer() | {"X-User": user}
                answer = await running.infer("a.scale", [[1.0]], headers, input="x")
                revisions.setdefault(user, set()).add(answer.headers["x-raymill-revision"])
            return revisions

    revisions = asyncio.run(run())
    assert all(len(seen) == 1 for seen in revisions.values())
    assert set().union(*revisions.values()) == {"1", "2"}


KINDS = Signature(
    inputs=(
        TensorSpec(name="number", datatype="INT64", shape=(-1,)),
        TensorSpec(name="word", datatype="BYTES", shape=(-1,)),
        TensorSpec(name="flag", datatype="BOOL", shape=(-1, 2)),
    ),
    outputs=(
        TensorSpec(name="number_out", datatype="INT64", shape=(-1,)),
        TensorSpec(name="word_out", datatype="BYTES", shape=(-1,)),
        TensorSpec(name="flag_out", datatype="BOOL", shape=(-1, 2)),
    ),
)


def test_a_model_of_several_inputs_and_outputs_takes_rows_keyed_by_input(plane, tmp_path):
    plane.grants()
    plane.endpoint("a.kinds", plane.revision(onnx_models.identities(tmp_path / "kinds.onnx"), KINDS))
    rows = [
        {"number": 2**62, "word": "één\0", "flag": [True, False]},
        {"number": -1, "word": "", "flag": [False, False]},
    ]
    answer = ask(plane, "POST", "/v2/models/a.kinds/predict", json={"instances": rows}, headers=plane.bearer())
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == [{f"{name}_out": value for name, value in row.items()} for row in rows]


def test_a_slow_model_times_out_and_the_loop_goes_on(plane, tmp_path):
    size = 512
    signature = Signature(
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, size)),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, size)),),
    )
    plane.grants()
    slow = plane.revision(onnx_models.matmul_tower(tmp_path / "slow.onnx", size=size), signature)
    plane.endpoint("a.slow", slow, timeout_s=0.05)

    async def run():
        async with serving(plane) as running:
            await running.infer("a.slow", [[0.0] * size], plane.bearer(), input="x")
            url, rows = "/v2/models/a.slow/predict", {"instances": [[0.0] * size] * 2000}
            late = asyncio.create_task(running.client.post(url, json=rows, headers=plane.bearer()))
            return await late, await running.client.get("/v2/health/live")

    late, live = asyncio.run(run())
    assert_refused(late, 504, "EXTERNAL_SERVICE_ERROR")
    assert live.status_code == 200


@pytest.mark.parametrize("damage", ["garbage", "wrong output", "wrong type", "missing", "other bytes", "format"])
def test_a_broken_artifact_is_a_503_with_the_reason_and_others_are_served(digits, tmp_path, damage):
    path, signature, changes = onnx_models.mlp(tmp_path / "second.onnx", seed=1), MLP, {}
    if damage == "garbage":
        path.write_bytes(b"not a model")
    elif damage == "wrong output":
        signature = MLP.model_copy(update={"outputs": (TensorSpec(name="nothing", datatype="FP32", shape=(-1, 3)),)})
    elif damage == "wrong type":
        signature = MLP.model_copy(update={"inputs": (TensorSpec(name="features", datatype="FP64", shape=(-1, 4)),)})
    elif damage == "missing":
        changes = {"uri": "prj_1/sha256/00/nothing"}
    elif damage == "other bytes":
        changes = {"sha256": "0" * 64}
    else:
        changes = {"format": "pickle"}
    digits.endpoint("digits.broken", digits.revision(path, signature, **changes))

    async def run():
        async with serving(digits) as running:
            url = "/v2/models/digits.broken"
            first, second = [await running.infer("digits.broken", ROWS, digits.bearer()) for _ in range(2)]
            ready = await running.client.get(f"{url}/ready", headers=digits.bearer())
            return first, second, ready, await running.infer("digits.mlp", ROWS, digits.bearer())

    first, second, ready, good = asyncio.run(run())
    assert_refused(first, 503, "EXTERNAL_SERVICE_ERROR")
    assert second.json()["message"] == first.json()["message"]
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert good.status_code == 200


def test_an_error_that_nobody_foresaw_is_a_500_in_shape_without_a_traceback(digits):
    async def receive():
        raise LookupError("the transport broke")

    async def send(message):
        sent.append(message)

    async def run():
        async with serving(digits) as running:
            headers = [(name.lower().encode(), value.encode()) for name, value in digits.bearer().items()]
            await running.server({"type": "http", "method": "POST", "path": INFER, "headers": headers}, receive, send)
            return await running.client.get("/v2/health/live")

    sent = []
    live = asyncio.run(run())
    broken = httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=sent[1]["body"])
    assert "transport" not in broken.text
    assert_refused(broken, 500, "INTERNAL_SERVER_ERROR")
    assert live.status_code == 200


def test_the_asgi_lifespan_starts_and_stops_the_server(digits):
    async def run():
        to_app, from_app = asyncio.Queue(), asyncio.Queue()
        server = ModelServer(Parts.open(digits.settings))
        life = asyncio.create_task(server({"type": "lifespan"}, to_app.get, from_app.put))
        for step in ("startup", "shutdown"):
            await to_app.put({"type": f"lifespan.{step}"})
            assert await from_app.get() == {"type": f"lifespan.{step}.complete"}
        await life

    asyncio.run(run())


def test_a_websocket_is_closed(digits):
    async def run():
        async with serving(digits) as running:
            await running.server({"type": "websocket"}, None, send)

    async def send(message):
        sent.append(message)

    sent = []
    asyncio.run(run())
    assert [message["type"] for message in sent] == ["websocket.close"]


async def talk(server: ModelServer, headers: dict[str, str], *received: dict) -> list[dict]:
    """Send raw ASGI messages to the infer route and return what comes back."""

    async def receive() -> dict:
        return next(messages)

    async def send(message: dict) -> None:
        sent.append(message)

    messages, sent = iter(received), []
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await server({"type": "http", "method": "POST", "path": INFER, "headers": pairs}, receive, send)
    return sent


def test_a_client_that_leaves_is_not_answered_and_not_counted(digits):
    async def run():
        async with serving(digits) as running:
            piece = {"type": "http.request", "body": b"{", "more_body": True}
            gone = {"type": "http.disconnect"}
            answers = [await talk(running.server, digits.bearer(), gone)]
            answers.append(await talk(running.server, digits.bearer(), piece, gone))
            return answers, running.parts.flusher._metrics.take()

    assert asyncio.run(run()) == ([[], []], [])


def test_a_body_without_a_length_is_bounded_too(tmp_path):
    plane = Plane(tmp_path / "home", serving=ServingSettings(max_body_bytes=10))
    plane.grants()
    plane.endpoint("digits.mlp", plane.revision(onnx_models.mlp(tmp_path / "mlp.onnx"), MLP))

    async def run():
        async with serving(plane) as running:
            return await talk(running.server, plane.bearer(), {"type": "http.request", "body": b"x" * 11})

    assert asyncio.run(run())[0]["status"] == 413


def test_the_server_says_when_a_background_task_has_died(digits):
    async def run():
        async with serving(digits) as running:
            running.server.check_health()
            running.parts._tasks[0].cancel()
            await asyncio.sleep(0)
            with pytest.raises(InternalError):
                running.server.check_health()

    asyncio.run(run())


def test_a_server_starts_and_stops_although_every_source_is_broken(digits):
    async def run():
        to_app, from_app = asyncio.Queue(), asyncio.Queue()
        server = ModelServer.open(digits.settings)
        (digits.home / "objects" / ".serving").rename(digits.home / "elsewhere")
        (digits.home / "serving").write_text("a file where a folder should be")
        await to_app.put({"type": "lifespan.startup"})
        await to_app.put({"type": "lifespan.shutdown"})
        await server({"type": "lifespan"}, to_app.get, from_app.put)
        return [from_app.get_nowait()["type"] for _ in range(from_app.qsize())]

    assert asyncio.run(run()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_public_endpoint_answers_strangers_up_to_a_limit(tmp_path):
    plane = Plane(tmp_path / "home", serving=ServingSettings(strangers_per_minute=3))
    plane.grants()
    revision = plane.revision(onnx_models.mlp(tmp_path / "mlp.onnx"), MLP)
    plane.endpoint("digits.mlp", revision, access=AccessPolicy(policy="public"))
    plane.endpoint("digits.closed", revision)

    async def run():
        async with serving(plane) as running:
            client = running.client
            asked = [await client.post(INFER, json=body()), await client.get("/v2/models/digits.mlp")]
            closed = await client.post("/v2/models/digits.closed/infer", json=body())
            wrong = await client.post(INFER, json=body(), headers={"X-API-Key": "rm_wrong"})
            asked += [await client.post(INFER, json=body()) for _ in range(2)]
            known = await client.post(INFER, json=body(), headers=plane.bearer())
            return asked, closed, wrong, known, [row.principal for row in running.parts.inference_log._rows]

    asked, closed, wrong, known, principals = asyncio.run(run())
    assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
    assert_refused(asked[-1], 429, "RATE_LIMIT_EXCEEDED")
    assert int(asked[-1].headers["retry-after"]) > 0
    assert_refused(closed, 401, "AUTHENTICATION_ERROR")
    assert_refused(wrong, 401, "AUTHENTICATION_ERROR")
    assert known.status_code == 200
    assert principals == ["anonymous", "anonymous", "usr_dev"]
