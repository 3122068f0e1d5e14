"""Feedback on answers: checked, and kept beside the log."""

import asyncio

import pytest
from plane import VIEWER_KEY
from pyarrow import parquet
from servers_in_process import serving
from test_log import GOOD, INFER

from raymill.kernel.storage import ObjectStore

FEEDBACK = "/v2/models/digits.mlp/feedback"


def kept(store: ObjectStore) -> list[dict]:
    return [
        row for uri in store.list_documents("prj_1/feedback") for row in parquet.read_table(store.open(uri)).to_pylist()
    ]


def test_feedback_is_kept_when_the_server_stops(digits):
    async def run():
        async with serving(digits) as running:
            answer = await running.client.post(INFER, json=GOOD, headers=digits.bearer())
            id_ = answer.headers["x-request-id"]
            for said in ({"label": "red"}, {"label": 3, "value": 0.5}, {"value": -1}):
                taken = await running.client.post(FEEDBACK, json={"request_id": id_, **said}, headers=digits.bearer())
                assert (taken.status_code, taken.json()) == (202, {"request_id": id_})
            return id_

    id_ = asyncio.run(run())
    rows = kept(digits.store)
    assert {(row["request_id"], row["endpoint_id"], row["principal"]) for row in rows} == {(id_, "dep_1", "usr_dev")}
    assert [(row["label"], row["value"]) for row in rows] == [('"red"', None), ("3", "0.5"), (None, "-1")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"request_id": "r"}', 422),
        (b'{"request_id": "r r", "value": 1}', 422),
        (b'{"request_id": "r", "value": "good"}', 422),
        (b'{"request_id": "r", "label": ["red"]}', 422),
        (b'{"request_id": "r", "label": "red", "more": 1}', 422),
        (b'{"request_id": "r", "label": "' + b"x" * 20_000 + b'"}', 413),
    ],
)
def test_what_is_no_feedback_is_refused(digits, body, status):
    async def run():
        async with serving(digits) as running:
            return await running.client.post(FEEDBACK, content=body, headers=digits.bearer())

    answer = asyncio.run(run())
    assert (answer.status_code, answer.json()["type"]) == (status, "VALIDATION_ERROR")
    assert kept(digits.store) == []


def test_only_who_may_invoke_may_say_something(digits):
    async def run():
        said = {"request_id": "r", "value": 1}
        async with serving(digits) as running:
            client = running.client
            answers = [
                await client.post(FEEDBACK, json=said),
                await client.post(FEEDBACK, json=said, headers={"X-API-Key": VIEWER_KEY}),
                await client.post("/v2/models/digits.other/feedback", json=said, headers=digits.bearer()),
                await client.get(FEEDBACK, headers=digits.bearer()),
            ]
            return [answer.status_code for answer in answers]

    assert asyncio.run(run()) == [401, 403, 404, 405]
