"""From rows to documents, without any server."""

from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raymill.auth.keys import KeyGrant
from raymill.auth.permissions import Permission
from raymill.deployments.compile import (
    KEPT_REVISIONS,
    compile_endpoint,
    compile_grants,
    compile_revocations,
    endpoint_key,
    endpoint_url,
)
from raymill.deployments.models import Deployment, Revision

SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
}
INVOKE = frozenset({"endpoint:invoke"})


def deployment(traffic: dict[str, int]) -> Deployment:
    return Deployment(
        id="dep_1",
        project_id="prj_1",
        name="digits",
        environment="production",
        endpoint_key="vision.digits",
        model_id="mdl_1",
        traffic=traffic,
        created_by="usr_1",
    )


def revision(number: int) -> Revision:
    return Revision(
        id=f"rev_{number}",
        project_id="prj_1",
        deployment_id="dep_1",
        number=number,
        model_version_id=f"mdv_{number}",
        model_version=number,
        format="onnx",
        uri=f"prj_1/sha256/{number}",
        sha256=f"{number:064x}",
        size_bytes=10,
        signature=SIGNATURE,
        status="ready",
    )


@st.composite
def weights(draw: st.DrawFn) -> dict[str, int]:
    """Draw percentages that sum to 100, some of them zero."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), max_size=6)))
    edges = [0, *cuts, 100]
    return {str(number): high - low for number, (low, high) in enumerate(pairwise(edges), 1)}


@given(weights())
def test_traffic_survives_with_every_revision_it_names(traffic: dict[str, int]) -> None:
    document = compile_endpoint(deployment(traffic), [revision(int(number)) for number in traffic])
    assert document.traffic == {int(number): weight for number, weight in traffic.items() if weight}
    assert sum(document.traffic.values()) == 100
    assert set(document.traffic) <= {revision.number for revision in document.revisions}


@given(weights(), st.integers(-50, 50).filter(bool))
def test_traffic_that_does_not_sum_to_100_is_never_published(traffic: dict[str, int], error: int) -> None:
    wrong = {**traffic, "1": traffic["1"] + error}
    with pytest.raises(ValidationError, match=r"must sum to 100|must not be negative"):
        compile_endpoint(deployment(wrong), [revision(int(number)) for number in wrong])


def test_old_revisions_leave_the_document_and_served_ones_stay() -> None:
    document = compile_endpoint(deployment({"1": 100}), [revision(number) for number in range(1, 31)])
    numbers = [each.number for each in document.revisions]
    assert numbers == [1, *range(31 - KEPT_REVISIONS, 31)]


@pytest.mark.parametrize(
    ("environment", "key"), [("production", "vision.digits"), ("staging", "vision.digits.staging")]
)
def test_each_environment_has_its_own_endpoint(environment: str, key: str) -> None:
    assert endpoint_key("vision", "digits", environment) == key
    assert endpoint_url("http://host:8000", key) == f"http://host:8000/v2/models/{key}"


def key(secret: str, *, maker: str = "usr_1", permissions: frozenset[Permission] | None = None) -> KeyGrant:
    return KeyGrant(
        id=f"key_{secret}",
        secret_sha256=sha256(secret.encode()).hexdigest(),
        created_by=maker,
        permissions=permissions,
        expires_at=None,
    )


def test_grants_hold_what_the_data_plane_asks_for() -> None:
    members = {
        "usr_1": frozenset({Permission.ENDPOINT_INVOKE, Permission.DATASET_WRITE}),
        "usr_2": frozenset({Permission.PROJECT_READ}),
    }
    keys = [
        key("all"),
        key("narrow", permissions=frozenset({Permission.DATASET_READ})),
        key("beyond", maker="usr_2", permissions=frozenset({Permission.ENDPOINT_INVOKE})),
        key("left", maker="usr_3"),
    ]
    grants = compile_grants("prj_1", members=members, keys=keys)
    assert grants.members == {"usr_1": INVOKE, "usr_2": frozenset()}
    assert {grant.id: grant.permissions for grant in grants.keys.values()} == {
        "key_all": INVOKE,
        "key_narrow": frozenset(),
        "key_beyond": frozenset(),
        "key_left": frozenset(),
    }


def test_disabled_users_and_their_keys_are_out() -> None:
    members = {"usr_1": frozenset({Permission.ENDPOINT_INVOKE})}
    grants = compile_grants("prj_1", members=members, keys=[key("all")], disabled=["usr_1"])
    assert (grants.members, grants.keys) == ({}, {})


def test_revocations_name_the_second_of_the_last_token() -> None:
    document = compile_revocations({"ses_1": 1_800_000_000.0}, ["usr_9"])
    assert document.sessions == {"ses_1": datetime(2027, 1, 15, 8, 0, tzinfo=UTC)}
    assert document.users == {"usr_9"}
