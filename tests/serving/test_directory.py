"""How traffic weights become revisions."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from raymill.serving.published.directory import Endpoint
from raymill.serving.published.table import EndpointDocument

SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}


def endpoint(traffic: dict[int, int], endpoint_id: str = "dep_1") -> Endpoint:
    revisions = [
        {"number": n, "format": "onnx", "uri": "x", "sha256": f"{n:064x}", "size_bytes": 1, "signature": SIGNATURE}
        for n in traffic
    ]
    return Endpoint(
        EndpointDocument(
            key="p.m", version=1, endpoint_id=endpoint_id, project_id="prj", revisions=revisions, traffic=traffic
        )
    )


@st.composite
def weights(draw: st.DrawFn) -> dict[int, int]:
    cuts = sorted(draw(st.lists(st.integers(0, 100), max_size=5)))
    bounds = [0, *cuts, 100]
    return {number: high - low for number, (low, high) in enumerate(itertools.pairwise(bounds), start=1)}


@given(weights(), st.binary(min_size=1, max_size=40))
def test_a_key_always_gets_the_same_revision_and_one_with_weight(traffic, key):
    first = endpoint(traffic).pick(key)
    assert endpoint(traffic).pick(key).revision.number == first.revision.number
    assert traffic[first.revision.number] > 0


@settings(deadline=None)  # a thousand digests, on a machine that may be busy
@given(weights())
def test_shares_follow_the_weights(traffic):
    target, total = endpoint(traffic), 2000
    counts = dict.fromkeys(traffic, 0)
    for number in range(total):
        counts[target.pick(b"req_%d" % number).revision.number] += 1
    for number, weight in traffic.items():
        # Five standard deviations of a fair draw.
        slack = 5 * (total * (weight / 100) * (1 - weight / 100)) ** 0.5
        assert abs(counts[number] - total * weight / 100) <= slack


def test_raising_a_weight_moves_no_request_away_from_the_first_revision_twice():
    before, after = endpoint({1: 90, 2: 10}), endpoint({1: 50, 2: 50})
    keys = [b"req_%d" % number for number in range(1000)]
    moved_back = [k for k in keys if before.pick(k).revision.number == 2 and after.pick(k).revision.number == 1]
    assert moved_back == []


def test_two_endpoints_do_not_split_the_same_requests_off():
    one, other = endpoint({1: 50, 2: 50}), endpoint({1: 50, 2: 50}, "dep_2")
    keys = [b"req_%d" % number for number in range(1000)]
    equal = sum(one.pick(key).revision.number == other.pick(key).revision.number for key in keys)
    assert 400 < equal < 600
