"""What a sign-on provider may not get away with: tokens that do not fit, answers that are none."""

import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from raymill.auth.errors import ProviderUnavailable, SignOnRefused
from raymill.auth.sso_provider import Identity, OidcProvider, Proof
from raymill.kernel.settings import SsoProviderSettings

PROOF = Proof(redirect_url="http://localhost/callback", verifier="v" * 48, nonce="the nonce")
KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
SECOND = RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})


class Answers:
    """What the provider says, by path; a tuple is a status and a body that is sent as it is."""

    def __init__(self) -> None:
        self.issuer = ""
        self.by_path: dict[str, Any] = {}
        self.asked: list[str] = []

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        whole = {"iss": self.issuer, "aud": "raymill", "sub": "carol", "nonce": PROOF.nonce, "iat": now}
        whole |= {"exp": now + 300, "email": "carol@example.com", "email_verified": True} | changes
        return {name: value for name, value in whole.items() if value is not None}

    def tells(self, id_token: str) -> None:
        self.by_path["/token"] = {"access_token": "at", "token_type": "Bearer", "id_token": id_token}

    def signs(self, key: RSAKey = KEY, **changes: Any) -> None:
        self.tells(jwt.encode({"alg": "RS256", "kid": key.kid}, self.claims(**changes), key))

    def publishes(self, *keys: RSAKey) -> None:
        self.by_path["/jwks"] = {"keys": [key.as_dict(private=False) for key in keys]}


@pytest.fixture
def answers() -> Iterator[Answers]:
    said = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said.asked.append(self.path)
            found = said.by_path.get(self.path, (404, "nothing"))
            status, text = found if isinstance(found, tuple) else (200, json.dumps(found))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    said.issuer = f"http://127.0.0.1:{server.server_port}"
    endpoints = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
    document = {name: f"{said.issuer}/{path}" for name, path in endpoints.items()}
    said.by_path["/.well-known/openid-configuration"] = document | {"issuer": said.issuer}
    said.publishes(KEY)
    yield said
    server.shutdown()
    server.server_close()


@pytest.fixture
def provider(answers: Answers) -> OidcProvider:
    return OidcProvider("corp", SsoProviderSettings(issuer=answers.issuer, client_id="raymill", timeout_s=2))


def test_a_token_that_fits_names_the_person(answers: Answers, provider: OidcProvider) -> None:
    answers.signs(name="Carol", groups=["vision"])
    expected = Identity(answers.issuer, "carol", "carol@example.com", True, "Carol", frozenset({"vision"}))
    assert provider.identity("code", PROOF) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another-client"},
        {"aud": ["another-client", "third"]},
        {"aud": ["raymill", "another-client"], "azp": "another-client"},
        {"iss": "https://elsewhere.example.com"},
        {"nonce": "of another sign-on"},
        {"nonce": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"sub": None},
        {"iat": 4_000_000_000},
        {"at_hash": "of-another-token"},
    ],
    ids=str,
)
def test_a_claim_that_does_not_fit_is_refused(
    answers: Answers, provider: OidcProvider, changes: dict[str, Any]
) -> None:
    answers.signs(**changes)
    with pytest.raises(SignOnRefused):
        provider.identity("code", PROOF)


def test_a_token_of_another_key_is_refused(answers: Answers, provider: OidcProvider) -> None:
    answers.signs(OTHER)
    with pytest.raises(SignOnRefused):
        provider.identity("code", PROOF)


def base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def unsigned(answers: Answers, algorithm: str) -> str:
    header = json.dumps({"alg": algorithm, "kid": "first"})
    return f"{base64(header.encode())}.{base64(json.dumps(answers.claims()).encode())}"


def test_a_token_without_a_signature_is_refused(answers: Answers, provider: OidcProvider) -> None:
    answers.tells(f"{unsigned(answers, 'none')}.")
    with pytest.raises(SignOnRefused):
        provider.identity("code", PROOF)


def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(answers: Answers, provider: OidcProvider) -> None:
    text = unsigned(answers, "HS256")
    answers.tells(f"{text}.{base64(hmac.digest(KEY.as_pem(private=False), text.encode(), 'sha256'))}")
    with pytest.raises(SignOnRefused):
        provider.identity("code", PROOF)


@pytest.mark.parametrize("token", ["", "a.b.c", "not a token"])
def test_what_is_no_token_is_refused(answers: Answers, provider: OidcProvider, token: str) -> None:
    answers.tells(token)
    with pytest.raises(SignOnRefused):
        provider.identity("code", PROOF)


def test_new_keys_of_the_provider_are_learned_and_known_ones_kept(answers: Answers, provider: OidcProvider) -> None:
    answers.signs()
    for _ in range(3):
        provider.identity("code", PROOF)
    assert answers.asked.count("/jwks") == 1
    answers.publishes(KEY, SECOND)
    answers.signs(SECOND)
    assert provider.identity("code", PROOF).subject == "carol"
    assert answers.asked.count("/jwks") == 2
    assert answers.asked.count("/.well-known/openid-configuration") == 1


def test_an_email_that_only_userinfo_holds_is_asked_for(answers: Answers, provider: OidcProvider) -> None:
    answers.by_path["/.well-known/openid-configuration"]["userinfo_endpoint"] = f"{answers.issuer}/userinfo"
    answers.by_path["/userinfo"] = {"sub": "carol", "email": "c@example.com", "email_verified": "true"}
    answers.signs(email=None, email_verified=None)
    identity = provider.identity("code", PROOF)
    assert (identity.email, identity.email_is_verified) == ("c@example.com", True)
    answers.by_path["/userinfo"]["sub"] = "mallory"
    with pytest.raises(SignOnRefused, match="another person"):
        provider.identity("code", PROOF)


@pytest.mark.parametrize("answer", [(500, "{}"), (503, "<html>"), (200, "<html>"), (200, "[]")])
def test_an_answer_that_is_none_is_an_outage(answers: Answers, provider: OidcProvider, answer: tuple[int, str]) -> None:
    answers.by_path["/token"] = answer
    with pytest.raises(ProviderUnavailable):
        provider.identity("code", PROOF)
    assert answers.asked.count("/token") == 1


def test_keys_and_endpoints_that_are_missing_are_an_outage(answers: Answers, provider: OidcProvider) -> None:
    answers.signs()
    answers.by_path["/jwks"] = (502, "{}")
    with pytest.raises(ProviderUnavailable):
        provider.identity("code", PROOF)
    del answers.by_path["/.well-known/openid-configuration"]["token_endpoint"]
    with pytest.raises(ProviderUnavailable):
        provider.identity("code", PROOF)


def test_a_flood_of_wrong_codes_closes_the_door_to_nobody(answers: Answers, provider: OidcProvider) -> None:
    answers.by_path["/token"] = (400, '{"error": "invalid_grant"}')
    for _ in range(10):
        with pytest.raises(SignOnRefused, match="invalid_grant"):
            provider.identity("code", PROOF)
    answers.signs()
    assert provider.identity("code", PROOF).subject == "carol"
