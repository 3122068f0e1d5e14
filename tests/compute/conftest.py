"""Fixtures of the tests of compute."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from edge_cluster import EdgeCluster, running_cluster


@pytest.fixture(scope="session")
def edge_cluster() -> Iterator[EdgeCluster]:
    """One cluster for all tests of the edge."""
    with running_cluster() as cluster:
        yield cluster
