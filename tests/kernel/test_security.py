"""Passwords, tokens, signed documents and the keys behind them."""

from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from raymill.kernel import security
from raymill.kernel.errors import AuthenticationFailed, InternalError
from raymill.kernel.keyfiles import make_keys, public_key_digest, watch_private_key
from raymill.kernel.security import (
    TokenSigner,
    TokenVerifier,
    hash_password,
    hash_secret,
    load_signer,
    load_verifier,
    new_secret,
    password_matches,
)
from raymill.kernel.settings import AuthSettings

SETTINGS = AuthSettings()


@pytest.fixture
def signer(tmp_path: Path) -> TokenSigner:
    make_keys(tmp_path / "pair")
    return load_signer(tmp_path / "pair", SETTINGS)


@pytest.fixture
def key(signer: TokenSigner, tmp_path: Path) -> Ed25519PrivateKey:
    return watch_private_key(tmp_path / "pair").get()


def body(**changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    whole = {"iss": "raymill", "aud": "raymill", "sub": "usr_1", "sid": "ses_1", "iat": now, "exp": now + timedelta(60)}
    return {name: value for name, value in (whole | changes).items() if value is not None}


def test_passwords_are_hashed_with_argon2id_and_salt() -> None:
    hashed = hash_password("correct horse")
    assert hashed.startswith("$argon2id$")
    assert hashed != hash_password("correct horse")
    assert password_matches(hashed, "correct horse")
    assert not password_matches(hashed, "Correct horse")
    assert not password_matches(None, "correct horse")


def test_who_has_no_account_is_refused_as_slowly_as_who_has_one() -> None:
    assert not security._passwords.check_needs_rehash(security._NO_ACCOUNT)


def test_secrets_are_random_and_stored_as_digests() -> None:
    secret = new_secret("rm")
    assert secret.startswith("rm_")
    assert secret != new_secret("rm")
    assert len(urlsafe_b64decode(secret.removeprefix("rm_") + "=")) == 32
    assert hash_secret(secret) == hash_secret(secret) != secret


def test_a_token_says_who_and_until_when(signer: TokenSigner) -> None:
    now = datetime.now(UTC)
    claims = signer.verifier.claims(signer.access_token(user_id="usr_1", session_id="ses_1", now=now))
    assert (claims.user_id, claims.session_id) == ("usr_1", "ses_1")
    assert claims.expires_at == int((now + timedelta(seconds=900)).timestamp())


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": datetime(2020, 1, 1, tzinfo=UTC)},
        {"iss": "other"},
        {"aud": "other"},
        {"exp": None},
        {"sub": None},
        {"sid": None},
        {"aud": None},
        {"nbf": datetime(2100, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
def test_wrong_claims_are_refused(key: Ed25519PrivateKey, signer: TokenSigner, changes: dict[str, Any]) -> None:
    signer.verifier.claims(jwt.encode(body(), key, algorithm="EdDSA"))
    with pytest.raises(AuthenticationFailed):
        signer.verifier.claims(jwt.encode(body(**changes), key, algorithm="EdDSA"))


def test_other_signatures_are_refused(signer: TokenSigner) -> None:
    good = signer.access_token(user_id="usr_1", session_id="ses_1", now=datetime.now(UTC))
    header, payload, signature = good.split(".")
    public = signer.verifier.jwks()["keys"][0]["x"]
    forged = [
        jwt.encode(body(), Ed25519PrivateKey.generate(), algorithm="EdDSA"),
        jwt.encode(body(), None, algorithm="none"),
        jwt.encode(body(), public.ljust(64, "x"), algorithm="HS256"),
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature[:-4]}AAAA",
        f"{header}.{payload[:-2]}AA.{signature}",
        "",
        "a.b.c",
        "\u2603",
    ]
    for token in forged:
        with pytest.raises(AuthenticationFailed):
            signer.verifier.claims(token)


def test_documents_are_authentic_only_as_they_were_signed(signer: TokenSigner, tmp_path: Path) -> None:
    signature = signer.sign_document(b"document")
    assert len(signature) == 64
    assert signer.verifier.document_is_authentic(b"document", signature)
    assert not signer.verifier.document_is_authentic(b"documenT", signature)
    assert not signer.verifier.document_is_authentic(b"document", signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not signer.verifier.document_is_authentic(b"document", b"")
    make_keys(tmp_path / "other")
    other = load_signer(tmp_path / "other", SETTINGS)
    assert not other.verifier.document_is_authentic(b"document", signature)


def test_the_published_key_verifies_tokens(signer: TokenSigner) -> None:
    token = signer.access_token(user_id="usr_1", session_id="ses_1", now=datetime.now(UTC))
    published = jwt.PyJWKSet.from_dict(signer.verifier.jwks()).keys[0]
    assert jwt.decode(token, published, algorithms=["EdDSA"], audience="raymill")["sub"] == "usr_1"


def test_keys_are_made_once_and_the_private_one_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    make_keys(folder)
    first = (folder / "signing.pem").read_bytes()
    make_keys(folder)
    assert (folder / "signing.pem").read_bytes() == first
    assert (folder / "signing.pem").stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0
    assert b"PRIVATE" not in (folder / "public.pem").read_bytes()


def test_processes_that_start_at_once_make_one_pair(tmp_path: Path) -> None:
    def start(number: int) -> str | None:
        make_keys(tmp_path / "keys")
        load_signer(tmp_path / "keys", SETTINGS)
        return public_key_digest(tmp_path / "keys")

    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(start, range(32)))
    assert len(digests) == 1
    signature = load_signer(tmp_path / "keys", SETTINGS).sign_document(b"document")
    assert load_verifier(tmp_path / "keys", SETTINGS).document_is_authentic(b"document", signature)
    assert public_key_digest(tmp_path) is None


def test_the_public_key_alone_verifies(tmp_path: Path) -> None:
    make_keys(tmp_path)
    token = load_signer(tmp_path, SETTINGS).access_token(user_id="usr_1", session_id="ses_1", now=datetime.now(UTC))
    (tmp_path / "signing.pem").unlink()
    assert load_verifier(tmp_path, SETTINGS).claims(token).user_id == "usr_1"
    with pytest.raises(InternalError, match="signing key"):
        load_signer(tmp_path, SETTINGS)
    (tmp_path / "public.pem").unlink()
    with pytest.raises(InternalError, match="public key"):
        load_verifier(tmp_path, SETTINGS)


class KnownKeys:
    """Public keys that a test replaces in place, which no verifier can notice, or by others, which each must."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.keys = {"a": key.public_key()}

    def get(self, *, now: bool = False) -> dict[str, Ed25519PublicKey]:
        return self.keys


def test_a_signature_is_checked_once_and_again_when_the_keys_are_others(key: Ed25519PrivateKey) -> None:
    known = KnownKeys(key)
    verifier, token = TokenVerifier(known, SETTINGS), jwt.encode(body(), key, algorithm="EdDSA")
    claims = verifier.claims(token)
    known.keys["a"] = Ed25519PrivateKey.generate().public_key()
    assert verifier.claims(token) == claims
    with pytest.raises(AuthenticationFailed):
        verifier.claims(jwt.encode(body(sub="usr_2"), key, algorithm="EdDSA"))
    known.keys = dict(known.keys)
    with pytest.raises(AuthenticationFailed):
        verifier.claims(token)
