"""What browsers are told about the answers of the model server, and whose pages may read them."""

import asyncio

import httpx
from servers_in_process import serving

from raymill.kernel.browsers import SECURITY_HEADERS
from raymill.kernel.settings import HttpSettings
from raymill.serving.browsers import open_to_origins

ORIGIN = "https://tools.example.com"
PREDICT = "/v2/models/digits.mlp/predict"
BODY = {"instances": [[1.0, 2.0, 3.0, 4.0]]}


def ask(plane, method: str, path: str, *, scheme: str = "http", origins: tuple[str, ...] = (), **options):
    async def run():
        async with serving(plane) as running:
            app = open_to_origins(running.server, HttpSettings(cors_origins=origins))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"{scheme}://mill") as client:
                return await client.request(method, path, **options)

    return asyncio.run(run())


def test_answers_and_errors_have_the_headers_of_every_plane(digits):
    good = ask(digits, "POST", PREDICT, json=BODY, headers=digits.bearer())
    refused = ask(digits, "POST", PREDICT, json=BODY)
    assert (good.status_code, refused.status_code) == (200, 401)
    for answer in (good, refused):
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert "Strict-Transport-Security" not in answer.headers
    assert "max-age" in ask(digits, "GET", "/v2", scheme="https").headers["Strict-Transport-Security"]


def test_no_other_origin_may_read_by_default(digits):
    answer = ask(digits, "GET", "/v2", headers={"Origin": ORIGIN})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_origins_of_the_settings_may(digits):
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,x-customer"}
    before = ask(digits, "OPTIONS", PREDICT, origins=(ORIGIN,), headers={"Origin": ORIGIN} | wanted)
    assert (before.status_code, before.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert "x-customer" in before.headers["Access-Control-Allow-Headers"]
    bearer = digits.bearer()
    answer = ask(digits, "POST", PREDICT, origins=(ORIGIN,), json=BODY, headers=bearer | {"Origin": ORIGIN})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert "X-Raymill-Revision" in answer.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    stranger = ask(digits, "GET", "/v2", origins=(ORIGIN,), headers={"Origin": "https://evil.example.com"})
    assert "Access-Control-Allow-Origin" not in stranger.headers
