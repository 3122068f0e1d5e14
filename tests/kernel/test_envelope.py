"""Sealed values and the keys that wrap theirs."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from raymill.kernel.envelope import MasterKeyMissing, MasterKeys, make_master_key, rotate_master_key
from raymill.kernel.errors import InternalError


@pytest.fixture
def masters(tmp_path: Path) -> MasterKeys:
    make_master_key(tmp_path)
    return MasterKeys.load(tmp_path)


def test_a_value_opens_for_what_it_was_sealed_for_alone(masters: MasterKeys) -> None:
    envelope = masters.seal(b"value", about="prj_1/token")
    assert masters.open(envelope, about="prj_1/token") == b"value"
    assert b"value" not in envelope.sealed + envelope.wrapped_key
    with pytest.raises(InternalError):
        masters.open(envelope, about="prj_2/token")
    with pytest.raises(InternalError):
        masters.open(replace(envelope, sealed=envelope.sealed[:-1] + b"\0"), about="prj_1/token")


def test_equal_values_look_different(masters: MasterKeys) -> None:
    first, second = (masters.seal(b"value", about="x") for _ in range(2))
    assert first.sealed != second.sealed
    assert first.wrapped_key != second.wrapped_key


def test_a_rotated_key_opens_what_the_former_sealed(masters: MasterKeys, tmp_path: Path) -> None:
    old = masters.seal(b"value", about="x")
    rotate_master_key(tmp_path)
    rotated = MasterKeys.load(tmp_path)
    assert rotated.current != masters.current
    assert rotated.open(old, about="x") == b"value"
    new = rotated.rewrap(old, about="x")
    assert (new.key_id, new.sealed) == (rotated.current, old.sealed)
    lines = (tmp_path / "master.keys").read_text().splitlines()
    (tmp_path / "master.keys").write_text(f"{lines[1]}\n")
    alone = MasterKeys.load(tmp_path)
    assert alone.open(new, about="x") == b"value"
    with pytest.raises(MasterKeyMissing, match=masters.current):
        alone.open(old, about="x")


def test_processes_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: make_master_key(tmp_path), range(16)))
    assert len((tmp_path / "master.keys").read_text().splitlines()) == 1
    assert (tmp_path / "master.keys").stat().st_mode & 0o077 == 0


def test_without_keys_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyMissing, match="raymill keys make"):
        MasterKeys.load(tmp_path)
