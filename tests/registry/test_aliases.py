"""Aliases of versions: set, moved, read and taken away."""

from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from factories import Tenant
from raymill.kernel.errors import NotFound
from raymill.kernel.resources import Resources
from raymill.registry import aliases, service
from raymill.registry.errors import BadAlias
from raymill.registry.events import ModelAliasMoved
from registry_makers import import_version, make_draft, make_model

integration = pytest.mark.integration


@pytest.fixture
def model_id(alice: Tenant) -> str:
    """A model with two ready versions."""
    made = make_model(alice)
    import_version(alice, made)
    import_version(alice, made)
    return made


@given(st.from_regex(r"[A-Za-z0-9_.-]{0,70}", fullmatch=True))
@example("champion")
@example("a" * 64)
@example("latest")
@example("v12")
@example("v1-beta")
@example("a\n")
def test_an_alias_is_a_word_that_is_no_version(alias: str) -> None:
    plain = alias[:1].islower() and alias.isascii() and alias == alias.lower() and len(alias) <= 64
    plain = plain and "." not in alias and not alias.endswith("\n")
    is_version = alias == "latest" or (alias[:1] == "v" and alias[1:].isdigit())
    if plain and not is_version:
        assert aliases.check_alias(alias) == alias
    else:
        with pytest.raises(BadAlias):
            aliases.check_alias(alias)


@integration
def test_an_alias_moves_and_is_shown(alice: Tenant, model_id: str, resources: Resources) -> None:
    moves: list[ModelAliasMoved] = []
    resources.events.subscribe(ModelAliasMoved, moves.append)
    champion = f"/models/{model_id}/aliases/champion"
    for version in (1, 2, 2):
        answer = alice.put(champion, json={"version": version})
        assert (answer.status_code, answer.json()["version"], answer.json()["aliases"]) == (200, version, ["champion"])
    assert moves == [ModelAliasMoved(alice.project_id, model_id, "champion")] * 2
    alice.put(f"/models/{model_id}/aliases/a-b_2", json={"version": 2})
    assert alice.get(champion).json() == alice.get(f"/models/{model_id}/versions/2").json()
    assert alice.get(f"/models/{model_id}").json()["aliases"] == {"a-b_2": 2, "champion": 2}
    listed = alice.get(f"/models/{model_id}/versions").json()["items"]
    assert [one["aliases"] for one in listed] == [["a-b_2", "champion"], []]
    assert alice.delete(champion).status_code == 204
    assert [alice.get(champion).status_code, alice.delete(champion).status_code] == [404, 404]
    assert len(moves) == 4


@integration
def test_an_alias_goes_with_its_version(alice: Tenant, model_id: str, resources: Resources) -> None:
    for alias in ("champion", "challenger"):
        alice.put(f"/models/{model_id}/aliases/{alias}", json={"version": 1})
    alice.put(f"/models/{model_id}/aliases/other", json={"version": 2})
    moves: list[ModelAliasMoved] = []
    resources.events.subscribe(ModelAliasMoved, moves.append)
    assert alice.delete(f"/models/{model_id}/versions/1").status_code == 204
    assert alice.get(f"/models/{model_id}").json()["aliases"] == {"other": 2}
    assert sorted(move.alias for move in moves) == ["challenger", "champion"]
    assert alice.delete(f"/models/{model_id}").status_code == 204


@integration
@pytest.mark.parametrize(
    ("alias", "version", "status", "words"),
    [
        ("champion", 7, 404, "no version 7"),
        ("champion", 3, 409, "only a ready version"),
        ("champion", 0, 422, "greater than or equal to 1"),
        ("latest", 1, 422, "kept for versions"),
        ("1", 1, 422, "lower-case letter"),
    ],
)
def test_what_cannot_be_named_is_refused(
    alice: Tenant, model_id: str, alias: str, version: int, status: int, words: str
) -> None:
    make_draft(alice, model_id)
    refused = alice.put(f"/models/{model_id}/aliases/{alias}", json={"version": version})
    assert (refused.status_code, words in refused.json()["message"]) == (status, True), refused.text
    assert alice.get(f"/models/{model_id}").json()["aliases"] == {}


@integration
def test_setters_at_once_are_all_answered_and_one_of_them_wins(alice: Tenant, model_id: str) -> None:
    champion = f"/models/{model_id}/aliases/champion"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: alice.put(champion, json={"version": 1 + n % 2}), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert alice.get(champion).json()["version"] in (1, 2)


@integration
def test_an_alias_that_is_being_set_holds_a_deletion_back(alice: Tenant, model_id: str, resources: Resources) -> None:
    answers: list[int] = []
    with resources.session() as session:
        model = service.get_model(session, model_id)
        aliases.set_alias(session, model=model, alias="champion", version=1)
        path = f"/models/{model_id}/versions/1"
        deletion = Thread(target=lambda: answers.append(alice.delete(path).status_code))
        deletion.start()
        deletion.join(0.3)
        assert deletion.is_alive()
    deletion.join(10)
    assert (answers, alice.get(f"/models/{model_id}").json()["aliases"]) == ([204], {})
    with resources.session() as session, pytest.raises(NotFound, match="no version 1"):
        aliases.set_alias(session, model=model, alias="champion", version=1)


@integration
def test_a_viewer_reads_aliases_and_sets_none(alice: Tenant, bob: Tenant, model_id: str) -> None:
    champion = f"/models/{model_id}/aliases/champion"
    alice.put(champion, json={"version": 1})
    assert [bob.get(champion).status_code, bob.put(champion, json={"version": 2}).status_code] == [404, 404]
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "viewer"})
    assert bob.get(champion).json()["version"] == 1
    for refused in (bob.put(champion, json={"version": 2}), bob.delete(champion)):
        assert (refused.status_code, refused.json()["details"]) == (403, {"permission": "model:write"})
