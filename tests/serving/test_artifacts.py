"""The node's cache of artifacts."""

import os
from concurrent.futures import ThreadPoolExecutor

import onnx_models
import pytest
from plane import MLP

from raymill.serving.errors import ModelBroken, ModelUnavailable
from raymill.serving.models.artifacts import ArtifactCache


@pytest.fixture
def revision(plane, tmp_path):
    return plane.revision(onnx_models.mlp(tmp_path / "m.onnx"), MLP)


def test_an_artifact_is_fetched_once(plane, revision, tmp_path):
    cache = ArtifactCache(plane.store, tmp_path / "cache", max_bytes=2**20)
    path = cache.fetch(revision)
    plane.store.delete(revision.uri)
    assert cache.fetch(revision) == path
    assert path.stat().st_size == revision.size_bytes


def test_a_damaged_copy_is_fetched_again(plane, revision, tmp_path):
    cache = ArtifactCache(plane.store, tmp_path / "cache", max_bytes=2**20)
    content = cache.fetch(revision).read_bytes()
    cache.fetch(revision).write_bytes(b"damaged")
    assert cache.fetch(revision).read_bytes() == content


def test_an_artifact_that_is_not_the_published_one_is_refused_and_not_kept(plane, revision, tmp_path):
    cache = ArtifactCache(plane.store, tmp_path / "cache", max_bytes=2**20)
    with pytest.raises(ModelBroken, match="digest"):
        cache.fetch(revision.model_copy(update={"sha256": "0" * 64}))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_an_artifact_that_is_gone_is_broken_and_a_store_that_fails_is_unavailable(plane, revision, tmp_path):
    cache = ArtifactCache(plane.store, tmp_path / "cache", max_bytes=2**20)
    with pytest.raises(ModelBroken, match="not in the object store"):
        cache.fetch(revision.model_copy(update={"uri": "prj_1/gone"}))
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(ModelUnavailable):
        ArtifactCache(plane.store, blocked, max_bytes=2**20).fetch(revision)


def test_the_oldest_files_make_room(plane, tmp_path):
    revisions = [plane.revision(onnx_models.mlp(tmp_path / "m.onnx", seed=seed), MLP) for seed in range(4)]
    cache = ArtifactCache(plane.store, tmp_path / "cache", max_bytes=2 * revisions[0].size_bytes)
    paths = []
    for age, revision in enumerate(revisions):
        paths.append(cache.fetch(revision))
        os.utime(paths[-1], (age, age))
    assert [path.exists() for path in paths] == [False, False, True, True]


def test_servers_of_one_node_prune_at_the_same_time(plane, tmp_path):
    revisions = [plane.revision(onnx_models.mlp(tmp_path / "m.onnx", seed=seed), MLP) for seed in range(8)]
    cache = ArtifactCache(plane.store, tmp_path / "cache", max_bytes=2 * revisions[0].size_bytes)
    with ThreadPoolExecutor(8) as threads:
        # What another prunes before it is checked is fetched again by a later attempt.
        found = list(threads.map(lambda revision: _size(cache, revision), revisions * 40))
    assert set(found) <= {revisions[0].size_bytes, None}
    assert found.count(None) < len(found) / 2


def _size(cache, revision):
    try:
        return cache.fetch(revision) and revision.size_bytes
    except ModelUnavailable:
        return None
