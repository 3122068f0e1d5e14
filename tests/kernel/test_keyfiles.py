"""Signing keys that are rotated while processes run."""

from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest

from raymill.kernel.errors import AuthenticationFailed, InternalError
from raymill.kernel.keyfiles import Watched, make_keys, rotate_keys
from raymill.kernel.security import TokenSigner, load_signer, load_verifier
from raymill.kernel.settings import AuthSettings
from timing import Clock

SETTINGS = AuthSettings()


def token_of(signer: TokenSigner) -> str:
    return signer.access_token(user_id="usr_1", session_id="ses_1", now=datetime.now(UTC))


def kid_of(token: str) -> str:
    kid: str = jwt.get_unverified_header(token)["kid"]
    return kid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys")
    return tmp_path / "keys"


def test_a_running_verifier_learns_the_new_key_and_keeps_the_previous(folder: Path) -> None:
    verifier = load_verifier(folder, SETTINGS)
    signer = load_signer(folder, SETTINGS)
    old, seal = token_of(signer), signer.sign_document(b"table")
    new_kid = rotate_keys(folder)
    fresh = load_signer(folder, SETTINGS)
    assert kid_of(token_of(fresh)) == fresh.key_id == new_kid != kid_of(old)
    assert verifier.claims(token_of(fresh)).user_id == verifier.claims(old).user_id == "usr_1"
    assert verifier.document_is_authentic(b"table", fresh.sign_document(b"table"))
    assert verifier.document_is_authentic(b"table", seal)
    assert [key["kid"] for key in verifier.jwks()["keys"]] == [new_kid, kid_of(old)]


def test_a_document_of_an_unknown_key_makes_the_verifier_look(folder: Path) -> None:
    verifier = load_verifier(folder, SETTINGS)
    rotate_keys(folder)
    seal = load_signer(folder, SETTINGS).sign_document(b"table")
    assert verifier.document_is_authentic(b"table", seal)
    assert not verifier.document_is_authentic(b"other", seal)


def test_two_rotations_end_what_a_stolen_key_signed(folder: Path) -> None:
    stolen, running = token_of(load_signer(folder, SETTINGS)), load_verifier(folder, SETTINGS)
    assert running.claims(stolen).user_id == "usr_1"
    rotate_keys(folder)
    rotate_keys(folder)
    for verifier in (load_verifier(folder, SETTINGS), running):
        assert len(verifier.jwks()["keys"]) == 2
        with pytest.raises(AuthenticationFailed):
            verifier.claims(stolen)


def test_a_rotation_keeps_the_private_key_private_and_needs_a_pair(folder: Path, tmp_path: Path) -> None:
    rotate_keys(folder)
    assert (folder / "signing.pem").stat().st_mode & 0o077 == 0
    assert b"PRIVATE" not in (folder / "previous.pem").read_bytes() + (folder / "public.pem").read_bytes()
    with pytest.raises(InternalError, match="keys make"):
        rotate_keys(tmp_path / "empty")


def test_files_are_looked_at_once_a_second_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    file, clock, readings = tmp_path / "file", Clock(), 0

    def read() -> str:
        nonlocal readings
        readings += 1
        if not (text := file.read_text()):
            raise InternalError("half a file")
        return text

    file.write_text("one")
    watched = Watched((file,), read, monotonic=clock)
    file.write_text("second")
    assert watched.get() == "one"
    assert watched.get(now=True) == "second"
    file.write_text("")
    clock.now += 1.5
    assert watched.get() == "second"
    file.unlink()
    clock.now += 1.5
    assert watched.get() == "second"
    file.write_text("three!")
    clock.now += 1.5
    assert (watched.get(), watched.get(), readings) == ("three!", "three!", 5)
