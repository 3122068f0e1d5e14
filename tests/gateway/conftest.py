"""Fixtures of the gateway's tests."""

import pytest

from data_makers import make_dataset, uploaded
from factories import Tenant


@pytest.fixture
def dataset_id(alice: Tenant) -> str:
    """Return a dataset of alice's with one version."""
    dataset_id = make_dataset(alice, "table")
    rows = "".join(f"{n},{n * 2},{'ab'[n % 2]}\n" for n in range(20))
    uploaded(alice, dataset_id, f"width,height,kind\n{rows}".encode())
    return dataset_id
