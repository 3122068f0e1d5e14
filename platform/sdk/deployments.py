"""Deployments."""

import builtins
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from .documents import Document
from .errors import DeploymentFailed, WaitTimeout, error_named
from .inference_log import FeedbackRecord, InferenceRecord, asked
from .transport import Transport

_PATH = "/api/v1/deployments"
_ENDS = ("degraded", "failed", "stopped")


class Deployment(Document):
    """A deployment; ``endpoint`` is the URL path or URL that answers predictions."""

    id: str
    project_id: str
    name: str
    environment: str
    tier: str
    model_id: str
    endpoint: str
    access: dict[str, Any]
    status: str
    replicas: int
    revisions: list[dict[str, Any]]
    traffic: dict[str, Any]
    pending_traffic: dict[str, Any] = {}
    reason: str | None = None
    alias: str | None = None
    alias_reason: str | None = None
    examples: dict[str, str] | None = None
    created_at: datetime


class Deployments:
    """Calls below ``/deployments``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def deploy(
        self,
        *,
        project_id: str,
        name: str,
        model: str,
        version: int | None = None,
        alias: str | None = None,
        environment: str = "production",
        tier: str = "auto",
        resources: Mapping[str, Any] | None = None,
        scaling: Mapping[str, Any] | None = None,
        access: str | Mapping[str, Any] = "project",
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Deployment:
        """Deploy a model version.

        Args:
            project_id: The project.
            name: Name of the endpoint within the project.
            model: Name or id of the model.
            version: Number of the version; the newest ready one unless it or an alias is given.
            alias: Name of the version to serve now, and of whichever it names later.
            environment: ``staging`` or ``production``.
            tier: ``serverless``, ``dedicated`` or ``auto``, by the model's format.
            resources: ``cpus``, ``gpus`` and ``memory_bytes`` of each replica of a dedicated deployment.
            scaling: ``min_replicas``, ``max_replicas``, ``target_ongoing_requests`` and ``scale_to_zero_after_s``.
            access: Who may invoke: ``project``, ``authenticated``, ``public`` or ``keys``, or a document such as
                ``{"policy": "keys", "keys": ["key_…"]}``.
            options: ``routing``, ``rate_limit``, ``timeout_s``, ``max_queued``, ``batching`` and ``logging``.
            idempotency_key: Made anew unless given; one key makes one deployment.
        """
        body = {
            "project_id": project_id,
            "name": name,
            "model": model,
            "version": version,
            "alias": alias,
            "environment": environment,
            "tier": tier,
            "resources": resources,
            "scaling": scaling,
            "access": _policy(access),
            **(options or {}),
        }
        once = idempotency_key or str(uuid4())
        return Deployment.model_validate(self._transport.document("POST", _PATH, json=body, once=once))

    def get(self, deployment_id: str) -> Deployment:
        """Return a deployment as it is now."""
        return Deployment.model_validate(self._transport.document("GET", f"{_PATH}/{deployment_id}"))

    def list(self, *, project_id: str | None = None) -> Iterator[Deployment]:
        """Walk through the deployments that the caller may read, newest first."""
        items = self._transport.items(_PATH, {"project_id": project_id})
        return (Deployment.model_validate(item) for item in items)

    def update(self, deployment_id: str, **fields: Any) -> Deployment:
        """Change a deployment: its ``version`` or ``alias``, or settings as in ``deploy``, which leave the version.

        A new version gets all traffic as soon as every model server has it warm, unless ``promote`` is False.
        """
        if "access" in fields:
            fields["access"] = _policy(fields["access"])
        return Deployment.model_validate(self._transport.document("PATCH", f"{_PATH}/{deployment_id}", json=fields))

    def set_traffic(self, deployment_id: str, weights: Mapping[int, int]) -> Deployment:
        """Divide the traffic among ready revisions: percentages by number."""
        body = {"weights": {str(number): weight for number, weight in weights.items()}}
        return self._changed("PUT", deployment_id, "traffic", body)

    def promote(self, deployment_id: str, revision: int | None = None) -> Deployment:
        """Give all traffic to one ready revision, the newest unless named; ready when every model server follows."""
        return self._changed("POST", deployment_id, "promote", {"revision": revision})

    def rollback(self, deployment_id: str) -> Deployment:
        """Give all traffic back to the last ready revision that had it; ends a rollout that is under way."""
        return self._changed("POST", deployment_id, "rollback")

    def scale(self, deployment_id: str, replicas: int | None = None, **bounds: int) -> Deployment:
        """Set the replicas of a dedicated deployment, or its ``min_replicas`` and ``max_replicas``."""
        return self._changed("POST", deployment_id, "scale", {"replicas": replicas, **bounds})

    def stop(self, deployment_id: str) -> Deployment:
        """Let the endpoint answer nobody until it is started."""
        return self._changed("POST", deployment_id, "stop")

    def start(self, deployment_id: str) -> Deployment:
        """Let a stopped endpoint answer again as before."""
        return self._changed("POST", deployment_id, "start")

    def endpoints(self, deployment_id: str) -> builtins.list[dict[str, Any]]:
        """Return the operations that clients may call, with their schemas."""
        listed: builtins.list[dict[str, Any]] = self._transport.document("GET", f"{_PATH}/{deployment_id}/endpoints")
        return listed

    def events(self, deployment_id: str, *, follow: bool = False, seconds: float = 3600.0) -> Iterator[dict[str, Any]]:
        """Walk through the states of a deployment until its change has ended, or with ``follow`` for that many seconds.

        Raises:
            NotFound: If there is no such deployment, or it is deleted meanwhile.
            RaymillError: If the platform ends the stream for another reason, such as a login that is over.
        """
        self.get(deployment_id)
        told = self._transport.events(f"{_PATH}/{deployment_id}/events", {"follow": follow, "seconds": seconds})
        return _states(told)

    def delete(self, deployment_id: str) -> None:
        """Take a deployment down."""
        self._transport.request("DELETE", f"{_PATH}/{deployment_id}")

    def metrics(self, deployment_id: str) -> dict[str, Any]:
        """Return requests, errors and latency percentiles."""
        metrics: dict[str, Any] = self._transport.document("GET", f"{_PATH}/{deployment_id}/metrics")
        return metrics

    def log(
        self,
        deployment_id: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        revision: int | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> Iterator[InferenceRecord]:
        """Walk through the requests that a deployment answered, newest first, as of a few seconds ago.

        Args:
            deployment_id: The deployment.
            since: The earliest moment, with its time zone.
            until: The latest moment, with its time zone.
            revision: Number of the revision that answered.
            status: HTTP status of the answer.
            request_id: The ``X-Request-ID`` of the answer.
        """
        query = asked(since, until, revision=revision, status=status, request_id=request_id)
        items = self._transport.items(f"{_PATH}/{deployment_id}/logs", query)
        return (InferenceRecord.model_validate(item) for item in items)

    def feedback(
        self,
        deployment_id: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        request_id: str | None = None,
    ) -> Iterator[FeedbackRecord]:
        """Walk through what clients said of a deployment's answers, newest first, as of a few seconds ago."""
        query = asked(since, until, request_id=request_id)
        items = self._transport.items(f"{_PATH}/{deployment_id}/feedback", query)
        return (FeedbackRecord.model_validate(item) for item in items)

    def wait_until_ready(self, deployment_id: str, *, timeout_s: float = 60.0, poll_s: float = 0.05) -> Deployment:
        """Wait until every model server holds the deployment's newest state.

        Raises:
            DeploymentFailed: If it is degraded, failed or stopped; the message holds the reason.
            WaitTimeout: If that does not happen in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            deployment = self.get(deployment_id)
            if deployment.status == "ready":
                return deployment
            if deployment.status in _ENDS:
                raise DeploymentFailed(f"The deployment {deployment.name} is {deployment.status}: {deployment.reason}")
            if time.monotonic() >= deadline:
                raise WaitTimeout(f"The deployment {deployment_id} is {deployment.status} after {timeout_s:.0f} s.")
            time.sleep(poll_s)

    def _changed(self, method: str, deployment_id: str, what: str, body: Mapping[str, Any] | None = None) -> Deployment:
        path = f"{_PATH}/{deployment_id}/{what}"
        once = str(uuid4()) if method == "POST" else None
        return Deployment.model_validate(self._transport.document(method, path, json=body, once=once))


def _states(told: Iterator[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, content in told:
        if name == "end":
            raise error_named(content["type"], content["message"])
        if name == "state":
            yield content


def _policy(access: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"policy": access} if isinstance(access, str) else dict(access)
