"""Publishing through a real Valkey, and model servers that follow, lose it, and find it again."""

import asyncio
import gc
import shutil
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import onnx_models
import pytest
import redis
from plane import KEY, OFTEN, SCALE, Plane
from servers_in_process import acknowledged, digits_status, serving

from raymill.kernel.cache import CacheUnavailable
from raymill.kernel.keyfiles import make_keys
from raymill.kernel.security import load_signer
from raymill.serving.errors import DocumentForged
from raymill.serving.published.channel import (
    BUMPS,
    COMPLETE,
    DOCUMENTS,
    GENERATION,
    SERVERS,
    Channel,
    await_acknowledgement,
    flush_servers,
    live_servers,
    publish,
    published_versions,
)
from raymill.serving.published.documents import SealedDocument, Tombstone, read_envelope, seal, unseal
from timing import soon

pytestmark = pytest.mark.integration


@pytest.mark.alone
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


@pytest.mark.alone
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


def test_a_server_that_catches_up_counts_as_alive(live_digits):
    plane = Plane(live_digits.home, live_digits.redis_url, serving=OFTEN)

    async def run():
        async with serving(plane) as running:
            follower, gate = running.parts.follower, asyncio.Event()
            take, sign = follower._take, lambda: plane.cache.zscore(SERVERS, next(iter(live_servers(plane.cache))))
            await soon(lambda: live_servers(plane.cache))

            async def take_later(envelopes):
                await gate.wait()
                await take(envelopes)

            follower._take = take_later
            sealed = seal(Tombstone(kind="endpoint", key="digits.mlp", version=99), plane.signer)
            asking = asyncio.create_task(acknowledged(plane, sealed))
            publish(plane.cache, sealed)
            before = sign()
            await soon(lambda: sign() > before + 0.2)
            held_up = not asking.done()
            gate.set()
            return held_up, await asking, await digits_status(running, plane.bearer())

    assert asyncio.run(run()) == (True, True, 404)


def test_a_server_that_got_every_bump_need_not_ask_what_it_missed(live_digits):
    async def run():
        async with serving(live_digits) as running:
            follower, generation = running.parts.follower, lambda: live_digits.cache.get(GENERATION)
            await soon(lambda: live_servers(live_digits.cache) and follower._generation == generation())
            next(task for task in follower._tasks if task.get_name() == "pulse").cancel()
            for _ in range(3):
                assert await acknowledged(live_digits, live_digits.grants())
            await soon(lambda: follower._generation == generation())
            live_digits.cache.set(GENERATION, "of a publication without a bump")
            assert await acknowledged(live_digits, live_digits.grants())
            assert follower._generation != generation()

    asyncio.run(run())


def test_a_server_catches_up_with_very_many_documents_before_it_counts_as_alive(live_plane):
    many = [Tombstone(kind="grants", key=f"prj_{number}", version=1) for number in range(1100)]
    for each in many:
        publish(live_plane.cache, seal(each, live_plane.signer))

    async def run():
        async with serving(live_plane) as running:
            return [running.parts.directory.version_of(f"grants:{each.key}") for each in many]

    followed = gc.get_freeze_count()
    assert asyncio.run(run()) == [1] * len(many)
    assert gc.get_freeze_count() > followed


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
