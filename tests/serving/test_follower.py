"""Publishing through a real Valkey, and model servers that follow, lose it, and find it again."""

import asyncio
import shutil
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import onnx_models
import pytest
import redis
from plane import KEY, NOWHERE, SCALE, Plane
from servers_in_process import serving

from raymill.kernel.cache import CacheUnavailable
from raymill.kernel.keyfiles import make_keys
from raymill.kernel.security import load_signer
from raymill.serving.errors import DocumentForged
from raymill.serving.published.channel import (
    BUMPS,
    COMPLETE,
    DOCUMENTS,
    Channel,
    await_acknowledgement,
    flush_servers,
    live_servers,
    publish,
    published_versions,
)
from raymill.serving.published.copies import DiskCopies, copy_uris, read_copies, store_copy
from raymill.serving.published.documents import SealedDocument, Tombstone, read_envelope, seal, unseal
from timing import soon

pytestmark = pytest.mark.integration
ROW = [[0.1, 0.2, 0.3, 0.4]]


def acknowledged(plane: Plane, sealed: SealedDocument, **kwargs) -> asyncio.Future[bool]:
    """Wait as a publisher does, in a thread."""
    return asyncio.to_thread(await_acknowledgement, plane.cache, sealed, **kwargs)


async def digits_status(running, headers) -> int:
    return (await running.infer("digits.mlp", ROW, headers)).status_code


def test_a_change_is_live_and_acknowledged_at_once(live_digits, tmp_path):
    async def run():
        async with serving(live_digits) as running, serving(live_digits) as second:
            await soon(lambda: len(live_servers(live_digits.cache)) == 2)
            revision = live_digits.revision(onnx_models.scale(tmp_path / "s.onnx", 5.0), SCALE)
            begun = time.perf_counter()
            sealed = live_digits.endpoint("digits.scale", revision)
            assert await acknowledged(live_digits, sealed)
            seconds = time.perf_counter() - begun
            answers = [
                await each.infer("digits.scale", [[2.0]], live_digits.bearer(), input="x") for each in (running, second)
            ]
            return seconds, [answer.json()["outputs"][0]["data"] for answer in answers]

    seconds, outputs = asyncio.run(run())
    assert outputs == [[10.0], [10.0]]
    # Far below the one-second check: the bump brought it.
    assert seconds < 0.5


def test_a_server_that_starts_after_a_flush_holds_all_before_it_counts_as_alive(live_digits):
    live_digits.cache.delete(COMPLETE)
    shutil.rmtree(live_digits.settings.home / "objects" / ".serving")

    async def run():
        async with serving(live_digits) as running:
            return await digits_status(running, live_digits.bearer())

    assert asyncio.run(run()) == 200


def test_a_key_works_at_once_and_dies_at_once(live_digits):
    async def run():
        async with serving(live_digits) as running:
            await soon(lambda: live_servers(live_digits.cache) != set())
            statuses = []
            for keys in (None, {}, None):
                assert await acknowledged(live_digits, live_digits.grants(keys=keys))
                statuses.append(await digits_status(running, {"X-API-Key": KEY}))
            return statuses

    assert asyncio.run(run()) == [200, 401, 200]


def test_traffic_moves_when_the_model_is_in_memory_and_the_move_holds_up_nothing_else(live_plane, tmp_path):
    plane, gate = live_plane, threading.Event()
    plane.grants()
    revisions = [plane.revision(onnx_models.scale(tmp_path / f"{n}", float(n)), SCALE, n) for n in (1, 2, 3)]
    plane.endpoint("a.scale", *revisions)

    async def answered(running) -> float:
        answer = await running.infer("a.scale", [[1.0]], plane.bearer(), input="x")
        return answer.json()["outputs"][0]["data"][0]

    async def run():
        async with serving(plane) as running:
            await soon(lambda: live_servers(plane.cache))
            answers = [await answered(running)]
            fetch = running.parts.pool._fetch
            running.parts.pool._fetch = lambda revision: (gate.wait(5), fetch(revision))[1]
            moved = acknowledged(plane, plane.endpoint("a.scale", *revisions, traffic={2: 100}))
            asking = asyncio.create_task(moved)
            await soon(lambda: running.parts.pool._opening)
            answers.append(await answered(running))
            assert await acknowledged(plane, plane.revoke(sessions={}))
            assert not asking.done()
            gate.set()
            assert await asking
            answers.append(await answered(running))
            gate.clear()
            running.parts.follower._handover._patience_s = 0.05
            assert await acknowledged(plane, plane.endpoint("a.scale", *revisions, traffic={3: 100}))
            gate.set()
            return [*answers, await answered(running)]

    assert asyncio.run(run()) == [1.0, 1.0, 2.0, 3.0]


def test_a_tombstone_ends_an_endpoint(live_digits):
    async def run():
        async with serving(live_digits) as running:
            await soon(lambda: live_servers(live_digits.cache) != set())
            before = await digits_status(running, live_digits.bearer())
            assert await acknowledged(live_digits, live_digits.bury("endpoint", "digits.mlp"))
            return before, await digits_status(running, live_digits.bearer())

    assert asyncio.run(run()) == (200, 404)


def test_nobody_alive_acknowledges_nothing(live_digits):
    begun = time.perf_counter()
    assert not await_acknowledgement(live_digits.cache, live_digits.grants(), timeout_s=2.0)
    assert time.perf_counter() - begun < 1.0


def test_a_server_that_does_not_follow_lets_the_time_run_out(live_digits):
    live_digits.cache.zadd("raymill:servers", {"srv-stuck": time.time()})
    assert not await_acknowledgement(live_digits.cache, live_digits.grants(), timeout_s=0.3)


def test_a_server_leaves_when_it_stops(live_digits):
    async def run():
        async with serving(live_digits):
            await soon(lambda: live_servers(live_digits.cache) != set())

    asyncio.run(run())
    assert live_servers(live_digits.cache) == set()


def test_a_server_that_missed_the_bump_acknowledges_when_reminded(live_digits):
    async def run():
        async with serving(live_digits) as running:
            await soon(lambda: live_servers(live_digits.cache) != set())
            sealed = live_digits.grants(keys={})
            await soon(lambda: running.parts.directory.version_of(sealed.name) == sealed.version)
            live_digits.cache.delete(*live_digits.cache.keys("raymill:ack:*"))
            return await acknowledged(live_digits, sealed)

    assert asyncio.run(run())


def test_a_change_without_a_bump_is_found_by_the_check(live_digits):
    async def run():
        async with serving(live_digits) as running:
            await soon(lambda: live_servers(live_digits.cache) != set())
            sealed = seal(Tombstone(kind="endpoint", key="digits.mlp", version=99), live_digits.signer)
            publish(redis.Redis.from_url(live_digits.redis_url), sealed)
            lost = [live_digits.cache.execute_command("CLIENT", "KILL", "TYPE", kind) for kind in ("pubsub", "normal")]
            assert sum(lost) > 0
            await soon(lambda: "digits.mlp" not in running.parts.directory.endpoints)

    asyncio.run(run())


def test_flushall_changes_nothing_and_later_changes_arrive(live_digits):
    async def run():
        async with serving(live_digits) as running:
            await soon(lambda: live_servers(live_digits.cache) != set())
            live_digits.cache.flushall()
            during = await digits_status(running, live_digits.bearer())
            await soon(lambda: live_servers(live_digits.cache) != set())
            assert published_versions(live_digits.cache) == {}
            assert await acknowledged(live_digits, live_digits.grants(members={}))
            return during, await digits_status(running, live_digits.bearer())

    assert asyncio.run(run()) == (200, 404)


def test_a_server_that_starts_after_a_flush_knows_every_revocation(live_digits):
    live_digits.revoke(sessions={"ses_1": datetime.now(UTC) + timedelta(hours=1)})
    live_digits.cache.flushall()
    live_digits.grants()

    async def run():
        async with serving(live_digits) as running:
            return [await digits_status(running, live_digits.bearer("usr_dev", session)) for session in ("ses_1", "s2")]

    assert asyncio.run(run()) == [401, 200]


def test_a_server_writes_its_log_away_when_asked(live_digits):
    async def run():
        async with serving(live_digits) as running:
            assert await digits_status(running, live_digits.bearer()) == 200
            assert live_digits.store.list_documents("prj_1/inference-log") == []
            assert await asyncio.to_thread(flush_servers, live_digits.cache)
            return live_digits.store.list_documents("prj_1/inference-log")

    assert len(asyncio.run(run())) == 1


def test_nobody_is_asked_to_write_where_nobody_lives(live_plane):
    assert not flush_servers(live_plane.cache)


def test_an_older_version_does_not_replace_a_later_one(live_plane):
    later = live_plane.grants(members={"usr_dev": {"endpoint:invoke"}})
    newest = live_plane.grants(members={})
    publish(live_plane.cache, later)
    assert published_versions(live_plane.cache) == {newest.name: newest.version}
    assert read_envelope(live_plane.cache.hget(DOCUMENTS, newest.name)) == newest


def test_forged_documents_are_refused_and_the_rest_goes_on(live_digits, tmp_path):
    stranger = tmp_path / "stranger"
    make_keys(stranger)
    signer = load_signer(stranger, live_digits.settings.auth)
    forged = seal(Tombstone(kind="endpoint", key="digits.mlp", version=500), signer)

    async def run():
        async with serving(live_digits) as running:
            await soon(lambda: live_servers(live_digits.cache) != set())
            publish(live_digits.cache, forged)
            live_digits.cache.publish(BUMPS, b"nonsense")
            refused = not await acknowledged(live_digits, forged, timeout_s=0.5)
            assert await acknowledged(live_digits, live_digits.grants())
            return refused, await digits_status(running, live_digits.bearer())

    assert asyncio.run(run()) == (True, 200)


def test_an_envelope_over_another_document_is_forged(live_plane):
    sealed = live_plane.grants()
    verifier = live_plane.signer.verifier
    for changes in ({"version": 77}, {"key": "prj_2"}, {"kind": "endpoint"}):
        moved = SealedDocument(**{**sealed.__dict__, **changes})
        with pytest.raises(DocumentForged):
            unseal(moved, verifier)
    changed = SealedDocument(**{**sealed.__dict__, "body": sealed.body.replace(b"usr_dev", b"usr_bad")})
    with pytest.raises(DocumentForged):
        unseal(changed, verifier)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"kind":"x"}', b"\xff"])
def test_what_is_no_envelope_is_refused(content):
    with pytest.raises(DocumentForged):
        read_envelope(content)


def test_a_kind_of_document_that_is_not_known_is_skipped_and_acknowledged(live_digits):
    class Novelty(Tombstone):
        deleted: bool = False

    async def run():
        async with serving(live_digits):
            await soon(lambda: live_servers(live_digits.cache) != set())
            sealed = live_digits.publish(Novelty(kind="novelty", key="k", version=1))
            return await acknowledged(live_digits, sealed)

    assert asyncio.run(run())


def test_a_new_server_starts_without_valkey_from_the_object_store_then_from_disk(live_digits):
    async def start(plane):
        async with serving(plane) as running:
            return await digits_status(running, plane.bearer())

    assert asyncio.run(start(live_digits)) == 200
    alone = Plane(live_digits.home, NOWHERE)
    assert asyncio.run(start(alone)) == 200
    for uri in alone.store.list_documents(".serving"):
        alone.store.delete(uri)
    assert copy_uris(alone.store) == []
    assert asyncio.run(start(alone)) == 200
    disk = DiskCopies(alone.home / "serving")
    for envelope in disk.read(disk.names()):
        (alone.home / "serving" / read_envelope(envelope).kind / f"{read_envelope(envelope).key}.json").unlink()
    assert asyncio.run(start(alone)) == 404


def test_more_documents_than_are_read_at_once_come_from_everywhere(live_plane):
    projects = {f"prj_{number}" for number in range(20)}
    for project_id in projects:
        live_plane.grants(project_id)
    live_plane.cache.set(COMPLETE, 1)

    async def held(plane):
        async with serving(plane) as running:
            return set(running.parts.directory.members)

    assert asyncio.run(held(live_plane)) == projects
    alone = Plane(live_plane.home, NOWHERE)
    assert asyncio.run(held(alone)) == projects
    shutil.rmtree(alone.settings.home / "objects" / ".serving")
    assert asyncio.run(held(alone)) == projects


def test_a_table_that_is_flushed_while_it_is_read_is_no_table(live_plane):
    live_plane.grants()
    live_plane.cache.set(COMPLETE, 1)

    async def run():
        channel = Channel(redis.asyncio.Redis.from_url(live_plane.redis_url), "srv-1")
        names = await channel.names()
        assert len(await channel.read_every(names)) == len(names) == 1
        live_plane.cache.flushall()
        try:
            await channel.read_every(names)
        finally:
            await channel.close()

    with pytest.raises(LookupError):
        asyncio.run(run())


def test_disk_copies_keep_the_latest_version(plane, tmp_path):
    disk = DiskCopies(tmp_path / "copies")
    older, newer = plane.grants(), plane.grants(members={})
    disk.keep([newer, older])
    assert [read_envelope(content) for content in disk.read(disk.names())] == [newer]
    (tmp_path / "copies" / "grants" / "prj_1.json").write_bytes(b"damaged")
    disk.keep([older])
    assert [read_envelope(content) for content in disk.read(disk.names())] == [older]


def test_the_object_store_holds_what_was_stored(plane):
    sealed = plane.grants()
    store_copy(plane.store, sealed)
    assert [read_envelope(content) for content in read_copies(plane.store, copy_uris(plane.store))] == [sealed]


def test_a_publisher_without_valkey_is_told(plane):
    sealed = plane.grants()
    for call in (
        lambda: publish(plane.cache, sealed),
        lambda: published_versions(plane.cache),
        lambda: await_acknowledgement(plane.cache, sealed),
    ):
        with pytest.raises(CacheUnavailable):
            call()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def open_relay(port: int, host: str, far_port: int) -> asyncio.Server:
    """Relay TCP from the port to a server elsewhere."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
        sink.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, far_port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    return await asyncio.start_server(relay, "127.0.0.1", port)


def test_a_server_that_started_without_valkey_finds_it_later(live_digits, tmp_path):
    valkey, port = urlsplit(live_digits.redis_url), free_port()
    plane = Plane(live_digits.home, f"redis://:{valkey.password}@127.0.0.1:{port}/0")

    async def run():
        async with serving(plane) as running:
            before = await digits_status(running, plane.bearer())
            async with await open_relay(port, valkey.hostname, valkey.port):
                await soon(lambda: live_servers(live_digits.cache) != set())
                assert await acknowledged(live_digits, live_digits.bury("endpoint", "digits.mlp"), timeout_s=5.0)
                await running.parts.stop()
            return before, await digits_status(running, plane.bearer())

    assert asyncio.run(run()) == (200, 404)
