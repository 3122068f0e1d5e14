"""Serve applications that are made and removed while the platform runs, each without a route.

They are deployed imperatively, for declared applications belong to whoever wrote apps.yaml (``raymill up``, KubeRay),
and two declarations delete each other's (Ray 2.60, ``apply_app_configs``). Serve takes every deployment of
an application that is there for new code and replaces its replicas, so one is deployed again only when it must differ;
what it was made from stands in the ``user_config``, where it can be read back.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ray import serve
from ray._private import ray_constants

from .cluster import Cluster
from .isolation import blanked_environment
from .standby import Replica, Standbys

# Private to Ray; without it a process imports its libraries when it gets its replica.
_SETUP_HOOK: str | None = getattr(ray_constants, "WORKER_PROCESS_SETUP_HOOK_ENV_VAR", None)
_MARK = "raymill"
_DECLARED = "declarative"
_STARTED = ("STARTING", "RUNNING")
# A program may block as it likes; its replica still answers health checks, and it opens no door of its own.
_ENVIRONMENT = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "",
}


@dataclass(frozen=True)
class AppState:
    """What Serve says of one application; ``fingerprint`` is None where it does not say what it was made from."""

    status: str
    message: str
    fingerprint: str | None
    replicas: int
    #: Those that start or run, and where; no part of what an application is.
    placed: tuple[Replica, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class AppSpec:
    """An application to make: a builder by its import path, what it is told, and how it is scaled."""

    name: str
    import_path: str
    args: Any
    fingerprint: str
    num_cpus: float
    num_gpus: float
    memory: int | None
    min_replicas: int
    max_replicas: int
    target_ongoing_requests: float
    scale_to_zero_after_s: float
    max_ongoing_requests: int
    #: A function ``module.name`` that a process calls when it starts, before it is given a replica.
    setup: str | None = None
    env_vars: dict[str, str] = field(default_factory=dict)

    @property
    def own_variables(self) -> dict[str, str]:
        """What the environment of this application has beside that of every one."""
        return self.env_vars | ({_SETUP_HOOK: self.setup} if self.setup and _SETUP_HOOK else {})


class DynamicApps:
    """The dynamic applications of the cluster that this process belongs to."""

    def __init__(self, cluster: Cluster, standbys: Standbys | None = None) -> None:
        self._cluster = cluster
        self._standbys = standbys or Standbys()

    def observe(self, prefix: str) -> dict[str, AppState]:
        """Map the names that begin so to what Serve says of them; what an operator declared is not ours.

        Raises:
            ClusterUnreachable: If the dashboard does not answer.
        """
        answer = self._cluster.call("GET", "/api/serve/applications/")
        rows = answer["applications"].items()
        ours = {name: row for name, row in rows if name.startswith(prefix) and row["source"] != _DECLARED}
        return {name: _state(row) for name, row in ours.items()}

    def make(self, spec: AppSpec) -> None:
        """Deploy an application, or deploy it anew; returns before it runs."""
        module, _, builder = spec.import_path.partition(":")
        application = getattr(import_module(module), builder)(spec.args, deployment_options(spec))
        target = serve.RunTarget(application, name=spec.name, route_prefix=None)
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

    def stand_by(self, specs: Collection[AppSpec], sleepers: Collection[str], observed: Mapping[str, AppState]) -> None:
        """Keep processes ready for the applications that are named as sleepers; the others may take them too."""
        kinds = {spec.name: repr(sorted(spec.own_variables.items())) for spec in specs}
        sleepy = {kinds[spec.name]: _variables(spec) for spec in specs if spec.name in sleepers}
        replicas: dict[str, list[Replica]] = {}
        for name, kind in kinds.items():
            replicas.setdefault(kind, []).extend(observed[name].placed if name in observed else ())
        self._standbys.keep(sleepy, replicas)

    def remove(self, name: str) -> None:
        """Delete an application; returns before its replicas have ended."""
        serve.delete(name, _blocking=False)


def deployment_options(spec: AppSpec) -> dict[str, Any]:
    """Return the options of the application's one deployment."""
    resources = {"num_cpus": spec.num_cpus, "num_gpus": spec.num_gpus}
    if spec.memory is not None:
        resources["memory"] = spec.memory
    runtime_env = {"env_vars": _variables(spec)}
    return _scaling(spec) | {
        "ray_actor_options": resources | {"runtime_env": runtime_env},
        "max_ongoing_requests": spec.max_ongoing_requests,
        "user_config": {_MARK: spec.fingerprint},
        "graceful_shutdown_wait_loop_s": 0.1,
        # A file that cannot be loaded will not be the next time either.
        "max_constructor_retry_count": 2,
        # The new replicas run before the old ones go.
        "max_surge_percent": 100,
        "logging_config": {"enable_access_log": False},
    }


def _variables(spec: AppSpec) -> dict[str, str]:
    """Return the environment of a replica, in full: what is left out would come from the process that deploys."""
    return blanked_environment() | _ENVIRONMENT | spec.own_variables


def _scaling(spec: AppSpec) -> dict[str, Any]:
    if spec.min_replicas == spec.max_replicas:
        return {"num_replicas": spec.min_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": spec.min_replicas,
            "max_replicas": spec.max_replicas,
            "target_ongoing_requests": spec.target_ongoing_requests,
            "upscale_delay_s": 3.0,
            # Longer than the interval at which Serve measures, which it insists on.
            "look_back_period_s": 12.0,
            "downscale_delay_s": max(30.0, min(spec.scale_to_zero_after_s, 600.0)),
            "downscale_to_zero_delay_s": spec.scale_to_zero_after_s,
        }
    }


def _state(row: dict[str, Any]) -> AppState:
    deployments = list(row.get("deployments", {}).values())
    configs = [deployment.get("deployment_config") or {} for deployment in deployments]
    marks = [(config.get("user_config") or {}).get(_MARK) for config in configs]
    replicas = [replica for deployment in deployments for replica in deployment["replicas"]]
    running = sum(replica["state"] == "RUNNING" for replica in replicas)
    placed = tuple(
        Replica(replica["replica_id"], replica["node_id"], replica["state"] == "RUNNING")
        for replica in replicas
        if replica["state"] in _STARTED and replica.get("node_id")
    )
    # Of a failure the application says no more than which deployment failed.
    message = next((one["message"] for one in deployments if one.get("message")), "") or row.get("message") or ""
    return AppState(row["status"], message, next((mark for mark in marks if mark), None), running, placed)
