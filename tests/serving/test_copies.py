"""Copies of the published documents, in the object store and on disks, and servers that start from them."""

import asyncio
import shutil

import pytest
from plane import KEY, NOWHERE, OFTEN, Plane
from servers_in_process import acknowledged, digits_status, serving

from raymill.serving.published.channel import COMPLETE, live_servers
from raymill.serving.published.copies import DiskCopies, copy_uris, read_copies, store_copy
from raymill.serving.published.documents import Tombstone, read_envelope, seal
from timing import soon

pytestmark = pytest.mark.integration


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


def test_of_the_copies_in_the_store_and_on_the_disk_the_later_one_counts(live_digits, tmp_path):
    """The controller, which copies to the store, died before the key was revoked."""
    in_store = live_digits.settings.home / "objects" / ".serving"

    async def status(plane, headers):
        async with serving(plane) as running:
            return await digits_status(running, headers)

    async def revoke():
        async with serving(live_digits) as running:
            await soon(lambda: live_servers(live_digits.cache))
            shutil.copytree(in_store, tmp_path / "before")
            assert await acknowledged(live_digits, live_digits.grants(keys={}))
            return await digits_status(running, {"X-API-Key": KEY})

    alone = Plane(live_digits.home, NOWHERE)
    assert asyncio.run(status(alone, {"X-API-Key": KEY})) == 200
    assert asyncio.run(revoke()) == 401
    shutil.rmtree(in_store)
    shutil.move(tmp_path / "before", in_store)
    assert asyncio.run(status(alone, {"X-API-Key": KEY})) == 401
    # The other way round: this disk was away when the endpoint was deleted.
    store_copy(alone.store, seal(Tombstone(kind="endpoint", key="digits.mlp", version=99), alone.signer))
    assert asyncio.run(status(alone, alone.bearer())) == 404


def test_what_the_disk_refuses_is_kept_when_it_takes_it(live_digits):
    plane = Plane(live_digits.home, live_digits.redis_url, serving=OFTEN)
    folder = plane.settings.home / "serving"

    def copy_of(sealed):
        path = folder / sealed.kind / f"{sealed.key}.json"
        return path.is_file() and read_envelope(path.read_bytes()) == sealed

    async def run():
        async with serving(plane):
            await soon(lambda: live_servers(plane.cache))
            await soon(lambda: len(list(folder.glob("*/*.json"))) == 2)
            (folder / "grants").rename(folder / "away")
            (folder / "grants").write_text("in the way")
            grants = live_digits.grants(keys={})
            assert await acknowledged(plane, grants)
            revoked = live_digits.revoke(sessions={})
            await soon(lambda: copy_of(revoked))
            (folder / "grants").unlink()
            (folder / "away").rename(folder / "grants")
            await soon(lambda: copy_of(grants))

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
