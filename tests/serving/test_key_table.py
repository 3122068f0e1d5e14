"""Packed keys hold what a plain dict would."""

import operator

from hypothesis import given, settings
from hypothesis import strategies as st

from raymill.kernel.ids import new_id
from raymill.serving.published.key_table import KeyTable, KnownKey

PROJECTS = ["prj_1", "prj_2", "prj_3"]
# All in one bucket, most with one mark, and with bytes that also stand elsewhere in its entries.
HEADS = st.sampled_from([b"\0\0\0\0", b"\0\0\0\1", b"\0\1\0\0"])
IDS = st.sampled_from(["", "key_1", f"key_{'0' * 26}", f"key_7{'z' * 25}", f"usr_{'0' * 26}"])
TIMES = st.sampled_from([None, 0.0, 1777636800.000001])
ENDPOINTS = st.sampled_from([None, "p.one", "p.two"])


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, dict[bytes, KnownKey] | None]:
    """Draw a project and its new keys, None when it goes."""
    project_id = draw(st.sampled_from(PROJECTS))
    tails = st.sampled_from([project_id.encode().rjust(28, bytes([number])) for number in range(4)])
    digests = st.builds(operator.add, HEADS, tails)
    keys = st.builds(KnownKey, IDS, st.just(project_id), st.booleans(), TIMES, ENDPOINTS)
    return project_id, draw(st.none() | st.dictionaries(digests, keys, max_size=4))


def change(table: KeyTable, project_id: str, keys: dict[bytes, KnownKey] | None) -> None:
    if keys is None:
        table.drop(project_id)
    else:
        table.put(project_id, keys)


@settings(max_examples=50, deadline=None)
@given(st.lists(steps(), max_size=6))
def test_the_table_holds_what_a_dict_holds(changes: list[tuple[str, dict[bytes, KnownKey] | None]]) -> None:
    table, plain = KeyTable(), dict[str, dict[bytes, KnownKey]]()
    for project_id, keys in changes:
        change(table, project_id, keys)
        plain[project_id] = keys or {}
        expected = {digest: key for each in plain.values() for digest, key in each.items()}
        # Twice: what was asked for lately comes another way.
        assert dict(table) == dict(table) == expected
        assert len(table) == len(expected)
        assert {digest: table.get(digest) for _, seen in changes for digest in seen or {}} == {
            digest: expected.get(digest) for _, seen in changes for digest in seen or {}
        }


def test_the_place_of_a_project_that_went_is_used_again() -> None:
    table = KeyTable()
    digests = {project_id: project_id.encode().ljust(32, b"\1") for project_id in PROJECTS}
    keys = {project_id: KnownKey(new_id("key"), project_id, True, None, None) for project_id in PROJECTS}
    for project_id in PROJECTS[:2]:
        table.put(project_id, {digests[project_id]: keys[project_id]})
    table.drop("prj_1")
    table.put("prj_3", {digests["prj_3"]: keys["prj_3"]})
    assert dict(table) == {digests[project_id]: keys[project_id] for project_id in PROJECTS[1:]}


def test_a_key_of_two_projects_lives_until_both_are_gone() -> None:
    table, digest = KeyTable(), bytes(32)
    for project_id in PROJECTS[:2]:
        table.put(project_id, {digest: KnownKey(new_id("key"), project_id, True, None, None)})
    table.drop("prj_1")
    assert table[digest].project_id == "prj_2"
    table.drop("prj_2")
    assert digest not in table


def test_more_kinds_of_keys_than_two_bytes_can_tell_apart() -> None:
    table = KeyTable()
    keys = {n.to_bytes(32): KnownKey(f"{n}", "prj_1", True, None, f"p.{n}") for n in range(0x10000 + 1)}
    table.put("prj_1", keys)
    assert [table[n.to_bytes(32)].endpoint for n in (0, 0xFFFF, 0x10000)] == ["p.0", "p.65535", "p.65536"]


def test_more_keys_than_are_remembered_are_all_known() -> None:
    table = KeyTable()
    keys = {n.to_bytes(32, "little"): KnownKey(f"{n}", "prj_1", True, None, None) for n in range(5000)}
    table.put("prj_1", keys)
    assert {digest: table.get(digest) for digest in keys} == keys
