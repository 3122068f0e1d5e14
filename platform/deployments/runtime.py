"""Where the apps of dedicated revisions run: a Protocol, and Ray Serve as its implementation."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from ..compute.cluster import Cluster
from ..compute.dynamic_apps import AppSpec, AppState, DynamicApps
from ..kernel.settings import Settings
from .tiers import APP_PREFIX

__all__ = ["AppRuntime", "AppState", "ServeAppRuntime", "WantedApp"]

_BUILDER = "raymill.serve_apps.dedicated:build"
_SETUP = "raymill.serve_apps.libraries"
_LIBRARIES = {
    "torchscript": "torch",
    "torch-export": "torch",
    "keras": "tensorflow",
    "saved-model": "tensorflow",
    "skops": "skops",
}
_POOLED = "onnxruntime"
# Ray places replicas by what they ask for alone, and most of what one needs are its libraries.
_LEAST_MEMORY, _MEMORY_PER_BYTE = 512 * 2**20, 3
# Requests that one replica takes at a time: enough that it never idles, few enough that new replicas get some.
_LEAST_ONGOING, _ONGOING_PER_TARGET = 32, 8


@dataclass(frozen=True)
class WantedApp:
    """The app of one revision as it should be."""

    name: str
    format: str
    sha256: str
    size_bytes: int
    signature: Mapping[str, Any]
    requested: Mapping[str, Any]
    scaling: Mapping[str, Any]
    #: Whether it has answered every model server once.
    is_warm: bool = True

    @property
    def fingerprint(self) -> str:
        """Equal for apps that need not be told apart."""
        parts = [self.format, self.sha256, self.signature, self.requested, self.scaling]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class AppRuntime(Protocol):
    """What the reconcile loop needs of the place where apps run."""

    def observe(self) -> Mapping[str, AppState]:
        """Map the names of all our apps to what the place says of them."""

    def make(self, app: WantedApp) -> None:
        """Start an app, or change one that is there; returns before it runs."""

    def remove(self, name: str) -> None:
        """End an app; returns before it has ended."""

    def stand_by(self, apps: Collection[WantedApp], observed: Mapping[str, AppState]) -> None:
        """Be ready to start those that sleep at once."""


class ServeAppRuntime:
    """Runs each app as an application of Ray Serve, on the cluster that this process belongs to."""

    def __init__(self, settings: Settings) -> None:
        self._cache = settings.home / "cache" / "artifacts"
        self._stands_by = settings.controller.standby
        self._apps = DynamicApps(Cluster.connect(settings))

    def observe(self) -> Mapping[str, AppState]:
        """Map the names of all our apps to what Serve says of them."""
        return self._apps.observe(APP_PREFIX)

    def make(self, app: WantedApp) -> None:
        """Deploy an app; Serve replaces the replicas of one that is there."""
        self._apps.make(spec_of(app, self._cache))

    def remove(self, name: str) -> None:
        """Delete an app."""
        self._apps.remove(name)

    def stand_by(self, apps: Collection[WantedApp], observed: Mapping[str, AppState]) -> None:
        """Keep a process on each node, its libraries imported, for those that may have no replica."""
        if self._stands_by:
            # One that never answered has nothing to wake.
            sleepers = {app.name for app in apps if app.is_warm and not app.scaling["min_replicas"]}
            self._apps.stand_by([spec_of(app, self._cache) for app in apps], sleepers, observed)


def spec_of(app: WantedApp, cache: Path) -> AppSpec:
    """Return the application of Serve that an app is; its files may lie in the cache."""
    cpus, target = float(app.requested["cpus"]), float(app.scaling["target_ongoing_requests"])
    told = {
        "app": app.name,
        "format": app.format,
        "sha256": app.sha256,
        "signature": dict(app.signature),
        "cache": str(cache),
        "threads": cpus,
    }
    return AppSpec(
        name=app.name,
        import_path=_BUILDER,
        args=told,
        fingerprint=app.fingerprint,
        num_cpus=cpus,
        num_gpus=float(app.requested["gpus"]),
        memory=app.requested["memory_bytes"] or _LEAST_MEMORY + _MEMORY_PER_BYTE * app.size_bytes,
        min_replicas=app.scaling["min_replicas"],
        max_replicas=app.scaling["max_replicas"],
        target_ongoing_requests=target,
        scale_to_zero_after_s=app.scaling["scale_to_zero_after_s"],
        max_ongoing_requests=max(_LEAST_ONGOING, round(_ONGOING_PER_TARGET * target)),
        setup=f"{_SETUP}.{_LIBRARIES.get(app.format, _POOLED)}",
        # As Ray would set it when the replica starts, after some libraries have looked.
        env_vars={"OMP_NUM_THREADS": str(max(1, int(cpus)))},
    )
