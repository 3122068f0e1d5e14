"""Fixtures of the data plane: a miniature control plane, and model servers in this process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

sys.path.insert(0, str(Path(__file__).parent))

import onnx_models
from plane import MLP, LogPolicy, Plane


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    """A control plane without Valkey: model servers start from the object store."""
    return Plane(tmp_path / "home")


@pytest.fixture
def live_plane(tmp_path: Path, redis_url: str) -> Iterator[Plane]:
    """A control plane with an empty Valkey."""
    redis.Redis.from_url(redis_url).flushall()
    yield Plane(tmp_path / "home", redis_url)
    redis.Redis.from_url(redis_url).flushall()


def serve_digits(plane: Plane, tmp_path: Path) -> None:
    """Publish one classifier as `digits.mlp`, with grants for its project."""
    plane.grants()
    revision = plane.revision(onnx_models.mlp(tmp_path / "mlp.onnx"), MLP)
    plane.endpoint("digits.mlp", revision, log=LogPolicy(sample_rate=1.0, payloads=True))


@pytest.fixture
def digits(plane: Plane, tmp_path: Path) -> Plane:
    """A plane that serves one classifier as `digits.mlp`."""
    serve_digits(plane, tmp_path)
    return plane


@pytest.fixture
def live_digits(live_plane: Plane, tmp_path: Path) -> Plane:
    """The same with Valkey."""
    serve_digits(live_plane, tmp_path)
    return live_plane
