"""Identifiers and names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymill.kernel.errors import ValidationFailed
from raymill.kernel.ids import check_name, new_id, pack_id, unpack_id


def test_ids_carry_their_prefix_and_sort_by_age() -> None:
    ids = [new_id("mdl") for _ in range(2000)]
    assert all(re.fullmatch(r"mdl_[0-7][0-9a-hjkmnp-tv-z]{25}", id_) for id_ in ids)
    assert len(set(ids)) == len(ids)
    assert [id_[:14] for id_ in ids] == sorted(id_[:14] for id_ in ids)


def test_ids_of_one_process_sort_strictly() -> None:
    ids = [new_id("evt") for _ in range(2000)]
    assert ids == sorted(ids)


@given(st.binary(min_size=16, max_size=16))
def test_an_id_is_the_sixteen_bytes_behind_it(packed: bytes) -> None:
    assert pack_id("key", unpack_id("key", packed)) == packed


@pytest.mark.parametrize(
    "id_", ["", "key", "key_", "key_1", f"usr_{'0' * 26}", f"keys{'0' * 26}", f"key_8{'0' * 25}", f"key_{'0' * 25}é"]
)
def test_what_is_no_id_of_the_prefix_is_not_packed(id_: str) -> None:
    assert pack_id("key", id_) is None


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True))
def test_names_that_fit_the_rule_are_kept(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "A", "a.b", "a_b", "a/b", "a\n", "ä", "x" * 41])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        check_name(name)
    assert refused.value.details == {"name": name}
