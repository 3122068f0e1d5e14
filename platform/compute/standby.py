"""Processes that stand by: started ahead of time, with a replica's imports behind them, for an app that sleeps.

A replica needs a process of Ray whose environment is exactly its own. Ray gives it one that idles, if there is one
(Ray 2.60, ``WorkerPool::PopWorker``), and else starts it, which with the imports takes seconds. Ray has a call to start
some ahead of time and no public function that makes it, so it is made here. A process that was not needed is Ray's to
end, as any that idles.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import ray
import structlog

log = structlog.get_logger(__name__)

_KEEP_S = 86_400.0
_RETRY_S = 60.0
# Each takes some hundred megabytes of every node.
_MOST_ENVIRONMENTS = 4
_TIMEOUT_S = 5.0

Variables = Mapping[str, str]


@dataclass(frozen=True)
class Replica:
    """A replica as Serve tells of it."""

    id: str
    node_id: str
    is_running: bool


@dataclass(frozen=True)
class Node:
    """A node that takes replicas, and where its raylet listens."""

    id: str
    address: str


class Standbys:
    """One process on each node for each environment that sleeping apps need; taken ones are replaced."""

    def __init__(
        self,
        nodes: Callable[[], Iterable[Node]] | None = None,
        start: Callable[[Node, Variables], None] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = nodes or _nodes
        self._start = start or _start
        self._monotonic = monotonic
        #: Node and environment, and until when nothing more is started there.
        self._there: dict[tuple[str, str], float] = {}
        self._known: set[str] = set()

    def keep(self, environments: Mapping[str, Variables], replicas: Mapping[str, Iterable[Replica]]) -> None:
        """Start what is missing, for each environment once no replica of it is starting; for a few environments only.

        Args:
            environments: Variables of each environment that sleeping apps need, by a name for it.
            replicas: The replicas of all apps, by the same names; a new one has taken the process of its node.
        """
        seen = {(name, one) for name, several in replicas.items() for one in several}
        taken = {(one.node_id, name) for name, one in seen if one.id not in self._known}
        now = self._monotonic()
        self._there = {place: until for place, until in self._there.items() if until > now and place not in taken}
        self._known = {one.id for _, one in seen}
        # In a fixed order, so that each look chooses the same.
        due = set(sorted(environments)[:_MOST_ENVIRONMENTS]) - {name for name, one in seen if not one.is_running}
        nodes = self._nodes() if due else ()
        wanted = {(node.id, name): node for node in nodes for name in due}
        for place in wanted.keys() - self._there.keys():
            has_begun = self._begin(wanted[place], environments[place[1]])
            self._there[place] = now + (_KEEP_S if has_begun else _RETRY_S)

    def _begin(self, node: Node, variables: Variables) -> bool:
        try:
            self._start(node, variables)
        except Exception as error:  # gRPC's, Ray's: an app that wakes without it only takes longer
            log.warning("standby_not_started", node=node.id, error=repr(error))
            return False
        return True


def _nodes() -> list[Node]:
    tell: Any = ray.nodes
    able = [row for row in tell() if row["Alive"] and row["Resources"].get("CPU")]
    return [Node(row["NodeID"], f"{row['NodeManagerAddress']}:{row['NodeManagerPort']}") for row in able]


def _start(node: Node, variables: Variables) -> None:
    # Private to Ray, and needed only where an app sleeps.
    from ray._private.grpc_utils import init_grpc_channel
    from ray._private.utils import get_runtime_env_info
    from ray.runtime_env import RuntimeEnv

    generated: Any = import_module("ray.core.generated.node_manager_pb2")
    services: Any = import_module("ray.core.generated.node_manager_pb2_grpc")
    request = generated.PrestartWorkersRequest(
        runtime_env_info=get_runtime_env_info(RuntimeEnv(env_vars=dict(variables))),
        keep_alive_duration_secs=int(_KEEP_S),
        num_workers=1,
    )
    with init_grpc_channel(node.address) as channel:
        services.NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=_TIMEOUT_S)
