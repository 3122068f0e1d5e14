"""Refuses to start on several nodes what only one node could have: files below a folder of its own."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import ray
import structlog
from fsspec.utils import get_protocol
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..kernel.errors import InternalError, RaymillError
from ..kernel.keyfiles import public_key_digest
from ..kernel.settings import Settings
from ..kernel.storage import ObjectStore

log = structlog.get_logger("raymill.compute")

LOOK_S = 60.0
_LOCAL = frozenset({"file", "local", "memory"})


class NotShared(InternalError):
    """Raised when the nodes of a cluster do not see the same object store or the same signing keys."""


@dataclass(frozen=True)
class View:
    """What one node sees: whether the marker lies in its object store, and which public key it has."""

    has_marker: bool
    key: str | None


def check_shared(settings: Settings) -> None:
    """Make sure that every node sees this node's object store and signing keys, where that is in doubt.

    An object store on the network and a folder of keys that the operator named are taken as shared.

    Raises:
        NotShared: One sentence that names the setting.
    """
    others = _other_nodes()
    if not others:
        return
    count = len(others) + 1
    if not settings.storage.url:
        raise NotShared(_store_sentence(settings, count, "lies in the home of one node"))
    local_store = get_protocol(settings.storage_url) in _LOCAL
    default_keys = "keys_dir" not in settings.model_fields_set
    if not local_store and not default_keys:
        return
    key = public_key_digest(settings.keys_dir)
    for address, view in _views(settings, others).items():
        if local_store and not view.has_marker:
            raise NotShared(_store_sentence(settings, count, f"is another folder on the node {address}"))
        if default_keys and (key is None or view.key != key):
            raise NotShared(
                f"The signing keys in {settings.keys_dir} are not the same on all {count} nodes of the cluster "
                f"(another or none on {address}): make them once with 'raymill keys make', give every node a copy, and "
                "set RAYMILL_KEYS_DIR to their folder."
            )


def is_alone() -> bool:
    """Say whether this node is the only one of the cluster."""
    return not _other_nodes()


def _store_sentence(settings: Settings, count: int, fault: str) -> str:
    return (
        f"The object store {settings.storage_url} {fault}, and the cluster has {count} nodes: set RAYMILL_STORAGE__URL "
        "on every node to one store that all of them reach, such as s3://bucket/prefix or file:// on a shared mount."
    )


def _other_nodes() -> dict[str, str]:
    """Ids of the living nodes but this one, with their addresses."""
    own = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["Alive"] and node["NodeID"] != own}


def _views(settings: Settings, nodes: dict[str, str]) -> dict[str, View]:
    """Let each node look, by its own settings; one that does not answer in time is not held against the rest."""
    store, marker = ObjectStore(settings), f".nodes/{uuid4().hex}"
    store.put_document(marker, b"")
    try:
        looks = {address: _pinned(node_id).remote(marker) for node_id, address in nodes.items()}
        ray.wait(list(looks.values()), num_returns=len(looks), timeout=LOOK_S)
        return {address: view for address, look in looks.items() if (view := _answer(address, look))}
    finally:
        store.delete(marker)


def _pinned(node_id: str) -> Any:
    return ray.remote(look).options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
    )


def _answer(address: str, look: Any) -> View | None:
    try:
        view: View = ray.get(look, timeout=0)
    except ray.exceptions.RayError as error:
        log.warning("node_not_asked", node=address, error=str(error))
        return None
    return view


def look(marker: str) -> View:
    """Say what this node sees (a Ray task)."""
    settings = Settings()
    found = False
    with suppress(RaymillError, OSError):
        ObjectStore(settings).get_document(marker)
        found = True
    return View(has_marker=found, key=public_key_digest(settings.keys_dir))


__all__ = ["NotShared", "View", "check_shared", "is_alone", "look"]
