"""Fixtures of the training tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from training import SteeredRuntime, make_table

from factories import Tenant


@pytest.fixture
def runtime() -> SteeredRuntime:
    """Return a cluster whose jobs do what the test says."""
    return SteeredRuntime()


@pytest.fixture
def dataset_id(alice: Tenant) -> str:
    """Return a dataset of alice's with one version."""
    return make_table(alice)
