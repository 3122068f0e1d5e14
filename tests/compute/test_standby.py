"""When processes are started ahead of time, and for whom; no Ray runs here."""

from dataclasses import replace

import pytest

from raymill.compute.standby import Node, Replica, Standbys, Variables

NODES = [Node("n1", "10.0.0.1:7"), Node("n2", "10.0.0.2:7")]
TORCH = {"torch": {"SETUP": "torch"}}


class Raylets:
    """The nodes, and what was started on each."""

    def __init__(self) -> None:
        self.nodes = list(NODES)
        self.started: list[tuple[str, str]] = []
        self.is_broken = False
        self.now = 0.0

    def start(self, node: Node, variables: Variables) -> None:
        if self.is_broken:
            raise ConnectionError("no raylet")
        self.started.append((node.id, variables["SETUP"]))

    def taken(self) -> list[tuple[str, str]]:
        """Return what was started since the last question."""
        found, self.started = sorted(self.started), []
        return found


@pytest.fixture
def raylets() -> Raylets:
    return Raylets()


@pytest.fixture
def standbys(raylets: Raylets) -> Standbys:
    return Standbys(lambda: raylets.nodes, raylets.start, monotonic=lambda: raylets.now)


def test_each_node_gets_one_for_each_environment_that_sleeps(standbys: Standbys, raylets: Raylets) -> None:
    standbys.keep({}, {"torch": []})
    assert raylets.taken() == []
    for _ in range(2):
        standbys.keep(TORCH | {"skops": {"SETUP": "skops"}}, {"torch": []})
    assert raylets.taken() == [("n1", "skops"), ("n1", "torch"), ("n2", "skops"), ("n2", "torch")]
    raylets.nodes.append(Node("n3", "10.0.0.3:7"))
    standbys.keep(TORCH, {"torch": []})
    assert raylets.taken() == [("n3", "torch")]


def test_one_that_a_replica_took_is_replaced_once_the_replica_runs(standbys: Standbys, raylets: Raylets) -> None:
    standbys.keep(TORCH, {})
    raylets.taken()
    waking = Replica("r1", "n2", is_running=False)
    standbys.keep(TORCH | {"skops": {"SETUP": "skops"}}, {"torch": [waking]})
    assert raylets.taken() == [("n1", "skops"), ("n2", "skops")]
    for _ in range(2):
        standbys.keep(TORCH, {"torch": [replace(waking, is_running=True)]})
    assert raylets.taken() == [("n2", "torch")]
    standbys.keep(TORCH, {"torch": []})
    assert raylets.taken() == []


def test_a_raylet_that_refuses_is_asked_again_after_a_while_or_when_an_app_wakes(
    standbys: Standbys, raylets: Raylets
) -> None:
    raylets.is_broken = True
    standbys.keep(TORCH, {})
    raylets.is_broken = False
    standbys.keep(TORCH, {})
    assert raylets.taken() == []
    standbys.keep(TORCH, {"torch": [Replica("r1", "n1", is_running=True)]})
    assert raylets.taken() == [("n1", "torch")]
    raylets.now = 61.0
    standbys.keep(TORCH, {"torch": [Replica("r1", "n1", is_running=True)]})
    assert raylets.taken() == [("n2", "torch")]


def test_one_that_ray_may_have_ended_is_replaced(standbys: Standbys, raylets: Raylets) -> None:
    standbys.keep(TORCH, {})
    assert len(raylets.taken()) == 2
    raylets.now = 86_401.0
    standbys.keep(TORCH, {})
    assert len(raylets.taken()) == 2


def test_few_environments_have_one(standbys: Standbys, raylets: Raylets) -> None:
    many = {f"e{number}": {"SETUP": f"e{number}"} for number in range(9)}
    for _ in range(2):
        standbys.keep(many, {})
    assert raylets.taken() == [(node, f"e{number}") for node in ("n1", "n2") for number in range(4)]
