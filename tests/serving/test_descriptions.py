"""What a model server tells about its models: configuration, statistics, the index, and OpenAPI that is true."""

import asyncio

import jsonschema
import onnx_models
import pytest
from plane import MLP, Plane
from servers_in_process import serving
from test_server import KINDS, assert_refused

from raymill.serving.openapi import openapi
from raymill.serving.published.directory import Endpoint
from raymill.serving.published.table import AccessPolicy, EndpointDocument, Revision, Signature
from timing import soon

ROW = [[0.1, 0.2, 0.3, 0.4]]


def get(plane: Plane, *paths: str, headers=None):
    async def run():
        async with serving(plane) as running:
            return [await running.client.get(path, headers=headers) for path in paths]

    return asyncio.run(run())


def test_descriptions_need_the_right_to_invoke(digits):
    url = "/v2/models/digits.mlp"
    paths = [f"{url}/{kind}" for kind in ("config", "stats", "openapi.json")] + ["/v2/models/stats"]
    assert [answer.status_code for answer in get(digits, *paths)] == [401] * 4
    assert [answer.status_code for answer in get(digits, *paths[:3], headers=digits.bearer("usr_stranger"))] == [
        404
    ] * 3
    assert get(digits, f"{url}/versions/1/openapi.json", headers=digits.bearer())[0].status_code == 404


def test_the_index_holds_what_the_caller_may_invoke(digits, tmp_path):
    foreign = digits.revision(onnx_models.mlp(tmp_path / "second.onnx", seed=1), MLP)
    digits.endpoint("other.mlp", foreign, project_id="prj_2", endpoint_id="dep_2")
    digits.endpoint("open.mlp", foreign, project_id="prj_2", endpoint_id="dep_3", access=AccessPolicy(policy="public"))

    async def run():
        async with serving(digits) as running:
            own = await running.client.post("/v2/repository/index", headers=digits.bearer())
            return own, await running.client.post("/v2/repository/index")

    own, anonymous = asyncio.run(run())
    assert [entry["name"] for entry in own.json()] == ["digits.mlp", "open.mlp"]
    assert own.json()[0] == {"name": "digits.mlp", "version": "1", "state": "READY", "reason": ""}
    assert_refused(anonymous, 401, "AUTHENTICATION_ERROR")


def test_the_index_can_leave_out_what_is_not_ready(digits, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    digits.endpoint("digits.broken", digits.revision(path, MLP), endpoint_id="dep_2")

    async def run():
        async with serving(digits) as running:
            await running.infer("digits.broken", ROW, digits.bearer())
            url, headers = "/v2/repository/index", digits.bearer()
            return [await running.client.post(url, json={"ready": ready}, headers=headers) for ready in (False, True)]

    everything, ready = ({entry["name"]: entry["state"] for entry in answer.json()} for answer in asyncio.run(run()))
    assert everything == {"digits.broken": "UNAVAILABLE", "digits.mlp": "READY"}
    assert ready == {"digits.mlp": "READY"}


def test_an_endpoint_whose_app_has_nothing_to_answer_with_is_not_ready(digits, tmp_path):
    program = digits.revision(onnx_models.mlp(tmp_path / "second.onnx", seed=1), MLP, format="torchscript", app="ep-1")
    digits.endpoint("digits.down", program, endpoint_id="dep_2", failing=(1,))
    digits.endpoint("digits.asleep", program, endpoint_id="dep_3")
    paths = [f"/v2/models/digits.{name}/ready" for name in ("down", "asleep")]
    down, asleep = get(digits, *paths, headers=digits.bearer())
    assert (down.status_code, down.json()["ready"]) == (503, False)
    assert (asleep.status_code, asleep.json()["ready"]) == (200, True)


def test_ten_thousand_endpoints_leave_others_their_turns(digits):
    async def turns_until(done: asyncio.Task) -> int:
        turns = 0
        while not done.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    async def run():
        async with serving(digits) as running:
            known = running.parts.directory.endpoints
            for number in range(10_000):
                known[f"p.m{number}"] = known["digits.mlp"]
            post = running.client.post("/v2/repository/index", headers=digits.bearer())
            index = asyncio.create_task(post)
            return await turns_until(index), len((await index).json())

    turns, entries = asyncio.run(run())
    assert entries == 10_001
    assert turns > 50


def test_statistics_need_valkey_and_say_so(digits):
    answer = get(digits, "/v2/models/digits.mlp/stats", headers=digits.bearer())[0]
    assert_refused(answer, 503, "EXTERNAL_SERVICE_ERROR")


@pytest.mark.integration
def test_statistics_count_what_all_servers_answered(live_digits):
    plane = live_digits

    async def run():
        async with serving(plane) as one, serving(plane) as two:
            for running in (one, two, two):
                await running.infer("digits.mlp", ROW, plane.bearer())
            await one.infer("digits.mlp", [[1.0]], plane.bearer())
            await soon(lambda: plane.cache.hget("metrics:dep_1", "1:requests") == b"4")
            return [
                await one.client.get(path, headers=plane.bearer())
                for path in (
                    "/v2/models/digits.mlp/stats",
                    "/v2/models/digits.mlp/versions/1/stats",
                    "/v2/models/stats",
                )
            ]

    answers = [answer.json()["model_stats"] for answer in asyncio.run(run())]
    assert answers[0] == answers[1] == answers[2]
    (model,) = answers[0]
    assert (model["name"], model["version"], model["inference_count"]) == ("digits.mlp", "1", 3)
    assert model["inference_stats"]["fail"]["count"] == 1
    assert model["inference_stats"]["success"]["ns"] > 0
    assert model["execution_count"] == 3


DATED = Signature.model_validate(
    {
        "inputs": [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": [-1, 4],
                "columns": ["a", "b", "c", "d"],
                "nullable": ["b"],
                "encoding": "days",
            }
        ],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
)


@pytest.mark.parametrize(
    ("signature", "make"),
    [(MLP, onnx_models.mlp), (KINDS, onnx_models.identities), (None, onnx_models.scale)],
    ids=["columns", "several inputs", "no columns"],
)
def test_the_examples_of_openapi_are_answered_as_it_says(plane, tmp_path, signature, make):
    plane.grants()
    shape = {"datatype": "FP32", "shape": [-1, 1]}
    plain = Signature.model_validate({"inputs": [{"name": "x", **shape}], "outputs": [{"name": "y", **shape}]})
    path = make(tmp_path / "m.onnx", 2.0) if signature is None else make(tmp_path / "m.onnx")
    plane.endpoint("a.model", plane.revision(path, signature or plain))

    async def run():
        async with serving(plane) as running:
            url = "/v2/models/a.model"
            document = (await running.client.get(f"{url}/openapi.json", headers=plane.bearer())).json()
            answers = {}
            for door in ("predict", "infer"):
                operation = document["paths"][f"{url}/{door}"]["post"]
                asked = operation["requestBody"]["content"]["application/json"]["schema"]
                jsonschema.validate(asked["examples"][0], asked)
                answer = await running.client.post(f"{url}/{door}", json=asked["examples"][0], headers=plane.bearer())
                answers[door] = answer, operation["responses"]["200"]["content"]["application/json"]["schema"]
            return answers

    for answer, schema in asyncio.run(run()).values():
        assert answer.status_code == 200, answer.text
        jsonschema.validate(answer.json(), schema)


def described(signature: Signature, **more) -> dict:
    example = more.pop("example", None)
    revision = Revision(
        number=3, format="onnx", uri="x", sha256="0" * 64, size_bytes=1, signature=signature, example=example
    )
    document = EndpointDocument(
        key="p.m", version=1, endpoint_id="d", project_id="p", revisions=(revision,), traffic={3: 100}, **more
    )
    endpoint = Endpoint(document)
    return openapi(endpoint, endpoint.serving[-1])


def schema_of(document: dict) -> dict:
    return document["paths"]["/v2/models/p.m/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ({"a": 1, "b": None, "c": "2024-02-29", "d": 0.5}, True),
        ({"a": 1, "c": 2, "d": 3}, True),
        ([1, None, "2024-02-29", 4], True),
        ({"a": 1, "b": 2, "c": 3}, False),
        ({"a": [1], "b": 2, "c": 3, "d": 4}, False),
        ([1, 2, 3], False),
    ],
)
def test_the_schema_knows_columns_dates_and_empty_values(row, fits):
    schema = schema_of(described(DATED))
    valid = jsonschema.Draft202012Validator(schema).is_valid({"instances": [row]})
    assert valid == fits


def test_the_version_is_the_revision_and_the_example_is_the_models_own():
    document = described(MLP, example=([1, 2, 3, 4],))
    assert document["info"] == {"title": "p.m", "version": "3"}
    assert schema_of(document)["examples"] == [{"instances": [[1, 2, 3, 4]]}]


def test_a_public_endpoint_needs_no_credential():
    assert {} in described(MLP, access=AccessPolicy(policy="public"))["security"]
    assert {} not in described(MLP, access=AccessPolicy(policy="keys"))["security"]
