"""Publishing and its repair, on a real PostgreSQL and Valkey and with the real follower."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlmodel import select

from factories import Tenant
from model_makers import add_version
from raymill.controller.leases import LeaseKeeper
from raymill.controller.scheduler import Scheduler
from raymill.controller.steps import GLOBAL, global_steps
from raymill.deployments import publisher
from raymill.deployments.events import DeploymentChanged
from raymill.deployments.models import Deployment, Publication
from raymill.deployments.publication import Subject, commit
from raymill.kernel import cache
from raymill.kernel.events import EventBus, record
from raymill.kernel.keyfiles import make_keys
from raymill.kernel.resources import Resources
from raymill.kernel.security import hash_secret, load_signer
from raymill.kernel.settings import RedisSettings
from raymill.serving.published import channel
from raymill.serving.published.copies import copy_uris, read_copies
from raymill.serving.published.documents import SealedDocument, Tombstone, read_envelope, unseal
from raymill.serving.published.grants import ProjectGrants

from .conftest import ModelServer, model_server, until

pytestmark = pytest.mark.integration

ENDPOINT = "endpoint:alice-project.digits"


def deploy(tenant: Tenant) -> str:
    answer = tenant.post("/deployments", json={"project_id": tenant.project_id, "name": "digits", "model": "digits"})
    assert answer.status_code == 202, answer.text
    id_: str = answer.json()["id"]
    return id_


def status(tenant: Tenant, deployment_id: str) -> str:
    word: str = tenant.get(f"/deployments/{deployment_id}/status").json()["status"]
    return word


def kept(resources: Resources) -> dict[str, int]:
    with resources.session() as session:
        return {f"{row.kind}:{row.key}": row.version for row in session.exec(select(Publication))}


def make_key(tenant: Tenant, number: int) -> str:
    answer = tenant.post(
        "/api-keys", json={"name": f"key {number}", "project_id": tenant.project_id, "permissions": ["*"]}
    )
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]
    return key


def test_fifty_keys_made_at_once_are_all_known_when_answered(alice: Tenant, server: ModelServer) -> None:
    def known_at_once(number: int) -> bool:
        digest = bytes.fromhex(hash_secret(make_key(alice, number)))
        return server.ask(lambda: digest in server.directory.keys)

    with ThreadPoolExecutor(10) as pool:
        known = list(pool.map(known_at_once, range(50)))
    assert known == [True] * 50
    assert len(server.directory.keys) == 50


def test_later_versions_hold_later_state(alice: Tenant, resources: Resources) -> None:
    seen: list[SealedDocument] = []

    def make_and_commit(number: int) -> None:
        make_key(alice, number)
        seen.append(commit(resources, Subject("grants", alice.project_id, alice.project_id)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make_and_commit, range(24)))
    documents = {sealed.version: unseal(sealed, resources.signer.verifier) for sealed in seen}
    counts = [len(document.keys) for _, document in sorted(documents.items()) if isinstance(document, ProjectGrants)]
    assert counts == sorted(set(counts))
    assert counts[-1] == 24


def test_nothing_changed_means_no_new_version(alice: Tenant, digits: int, resources: Resources) -> None:
    deploy(alice)
    before = kept(resources)
    publisher.publish_endpoint(resources, project_id=alice.project_id, key="alice-project.digits")
    publisher.publish_grants(resources, alice.project_id)
    assert kept(resources) == before


def test_one_sweep_repairs_a_flushed_valkey(alice: Tenant, digits: int, resources: Resources) -> None:
    deploy(alice)
    before = channel.published_versions(resources.cache)
    assert set(before) == {ENDPOINT, f"grants:{alice.project_id}"}
    resources.cache.flushall()
    publisher.sweep(resources)
    assert channel.published_versions(resources.cache) == before
    with model_server(resources, "late") as server:
        assert set(server.directory.endpoints) == {"alice-project.digits"}


def test_an_object_store_that_refuses_holds_up_neither_repair_nor_rollouts(
    alice: Tenant, digits: int, resources: Resources
) -> None:
    deployment_id = deploy(alice)
    folder = resources.settings.home / "objects" / ".serving"
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")
    resources.cache.flushall()
    with controller(resources):
        with model_server(resources, "one"):
            until(lambda: status(alice, deployment_id) == "ready", within_s=30)
        assert set(channel.published_versions(resources.cache)) >= {ENDPOINT}
        folder.unlink()
        until(lambda: len(copy_uris(resources.store)) == len(kept(resources)), within_s=30)


@contextmanager
def controller(resources: Resources) -> Iterator[None]:
    """Run what the controller does for publications."""
    keeper = LeaseKeeper(resources.database, names={GLOBAL}, holder="one", life_s=5)
    steps = [step for step in global_steps(resources) if step.name in ("publications", "copies")]
    scheduler = Scheduler(steps, keeper)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.stop(timeout_s=20)


def test_a_sweep_that_finds_nothing_writes_nothing(alice: Tenant, digits: int, resources: Resources) -> None:
    deploy(alice)
    publisher.sweep(resources)
    generation, before = resources.cache.get(channel.GENERATION), kept(resources)
    publisher.sweep(resources)
    assert (resources.cache.get(channel.GENERATION), kept(resources)) == (generation, before)


def test_an_event_that_was_committed_and_not_delivered_is_delivered_by_the_sweep(
    alice: Tenant, digits: int, resources: Resources, server: ModelServer
) -> None:
    deployment_id = deploy(alice)
    # A process that dies after its commit: nobody follows its events, and nothing is marked as delivered.
    dying = replace(resources, events=_Dead())
    with dying.session() as session:
        resources.cache.flushall()
        record(session, DeploymentChanged(deployment_id, alice.project_id, "alice-project.digits"))
    until(lambda: resources.redeliver() == 1)
    assert ENDPOINT in channel.published_versions(resources.cache)


class _Dead(EventBus):
    """The bus of a process that dies before it delivers."""

    def deliver(self, rows: object) -> list[str]:
        return []


def test_a_commit_that_was_not_published_is_published_by_the_sweep(
    app: FastAPI, alice: Tenant, digits: int, resources: Resources, server: ModelServer, tmp_path: Path
) -> None:
    deployment_id = deploy(alice)
    away = replace(resources, cache=_nowhere(), events=EventBus())
    publisher.subscribe(away)
    add_version(resources, alice, tmp_path, content=b"version 2")
    app.state.resources = away
    assert alice.patch(f"/deployments/{deployment_id}", json={}).status_code == 200
    assert status(alice, deployment_id) == "deploying"
    assert server.directory.endpoints["alice-project.digits"].document.traffic == {1: 100}
    publisher.sweep(resources)
    until(lambda: server.directory.endpoints["alice-project.digits"].document.traffic == {2: 100})
    until(lambda: publisher.sweep(resources) or status(alice, deployment_id) == "ready")


def _nowhere() -> cache.redis.Redis:
    return cache.connect(RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"), timeout_s=0.2))


def test_ready_waits_for_every_live_server(
    alice: Tenant, digits: int, resources: Resources, server: ModelServer
) -> None:
    resources.cache.zadd(channel.SERVERS, {"silent": 9_999_999_999})
    deployment_id = deploy(alice)
    publisher.sweep(resources)
    shown = alice.get(f"/deployments/{deployment_id}/status").json()
    assert (shown["status"], shown["reason"]) == (
        "deploying",
        "Not every model server follows the latest change yet.",
    )
    resources.cache.zrem(channel.SERVERS, "silent")
    until(lambda: publisher.sweep(resources) or status(alice, deployment_id) == "ready")


def test_sweep_says_that_no_server_runs_and_notices_one(alice: Tenant, digits: int, resources: Resources) -> None:
    deployment_id = deploy(alice)
    publisher.sweep(resources)
    assert "No model server" in alice.get(f"/deployments/{deployment_id}/status").json()["reason"]
    with model_server(resources, "one"):
        until(lambda: publisher.sweep(resources) or status(alice, deployment_id) == "ready")
        with model_server(resources, "two"):
            replicas = lambda: alice.get(f"/deployments/{deployment_id}/status").json()["replicas"]  # noqa: E731
            until(lambda: publisher.sweep(resources) or replicas() == 2)
        with resources.session() as session:
            session.get_one(Deployment, deployment_id).status = "degraded"
        until(lambda: publisher.sweep(resources) or replicas() == 1)


def test_deleted_endpoints_are_tombstones_in_valkey_and_in_the_store(
    alice: Tenant, digits: int, resources: Resources
) -> None:
    alice.delete(f"/deployments/{deploy(alice)}")
    publisher.sweep(resources)
    publisher.store_copies(resources)
    envelope = resources.cache.hget(channel.DOCUMENTS, ENDPOINT)
    assert isinstance(envelope, bytes)
    assert isinstance(unseal(read_envelope(envelope), resources.signer.verifier), Tombstone)
    stored = {read_envelope(copy).name: copy for copy in read_copies(resources.store, copy_uris(resources.store))}
    assert stored[ENDPOINT] == envelope


def test_a_revoked_key_is_gone_when_that_is_answered(alice: Tenant, server: ModelServer) -> None:
    make_key(alice, 1)
    until(lambda: server.directory.keys)
    key_id = alice.get("/api-keys").json()["items"][0]["id"]
    assert alice.delete(f"/api-keys/{key_id}").status_code == 204
    assert server.directory.keys == {}


def test_a_deleted_project_takes_its_grants_along(alice: Tenant, server: ModelServer) -> None:
    until(lambda: alice.project_id in server.directory.members)
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 204
    assert alice.project_id not in server.directory.members


def test_a_session_that_logged_out_is_dead_on_the_data_plane(alice: Tenant, resources: Resources) -> None:
    with model_server(resources, "one") as server:
        session_id = resources.signer.verifier.claims(alice.tokens["access_token"]).session_id
        assert alice.post("/auth/logout").status_code == 204
        assert session_id in server.directory.revoked_sessions


def test_database_older_than_valkey_publishes_above_it(
    alice: Tenant, digits: int, resources: Resources, server: ModelServer
) -> None:
    deploy(alice)
    sealed = commit(resources, Subject("endpoint", "alice-project.digits", alice.project_id))
    ahead = sealed.version + 10_000_000
    resources.cache.hset(channel.VERSIONS, ENDPOINT, str(ahead))
    publisher.sweep(resources)
    assert channel.published_versions(resources.cache)[ENDPOINT] > ahead
    until(lambda: server.directory.version_of(ENDPOINT) > ahead)


def test_a_replaced_signing_key_reseals_everything(
    alice: Tenant, digits: int, resources: Resources, tmp_path: Path
) -> None:
    deploy(alice)
    make_keys(tmp_path / "new-keys")
    renewed = replace(resources, signer=load_signer(tmp_path / "new-keys", resources.settings.auth))
    publisher.sweep(renewed)
    envelopes = list(resources.cache.hgetall(channel.DOCUMENTS).values())  # type: ignore[union-attr]
    assert len(envelopes) == 2
    for envelope in envelopes:
        assert unseal(read_envelope(envelope), renewed.signer.verifier) is not None
