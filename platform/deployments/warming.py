"""Follows the warm-ups of revisions on the model servers, and gives the traffic that waits for them.

The process that published a change waits a moment for its end; what takes longer is finished by the controller's sweep.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlmodel import Session, col, select

from ..kernel.cache import CacheUnavailable
from ..kernel.resources import Resources
from ..serving.published import channel
from .models import Deployment, Revision
from .rollouts import is_rolling, revisions_of, settle, to_warm
from .schemas import DeploymentStatus

_PATIENCE_S = 1.0
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.002, 0.02


@dataclass(frozen=True)
class Rollout:
    """The revisions of one deployment that are being warmed."""

    deployment_id: str
    key: str
    numbers: frozenset[int]
    has_apps: bool


def follow(
    resources: Resources,
    key: str,
    *,
    patience_s: float = _PATIENCE_S,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait a moment for the warm-ups of one endpoint; apps take longer to start than a client should wait."""
    rollouts = _rollouts(resources, col(Deployment.endpoint_key) == key)
    deadline, pause_s = monotonic() + patience_s, _FIRST_PAUSE_S
    while rollouts and not rollouts[0].has_apps:
        try:
            if _advance(resources, rollouts[0]) or monotonic() >= deadline:
                return
        except CacheUnavailable:
            return
        sleep(pause_s)
        pause_s = min(2 * pause_s, _LAST_PAUSE_S)


def follow_all(resources: Resources) -> dict[str, str]:
    """Finish every rollout whose warm-ups have ended; return of the others in the pool how far they are, by endpoint.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    rollouts = _rollouts(resources)
    unfinished = [rollout for rollout in rollouts if not _advance(resources, rollout)]
    return {rollout.key: _progress(resources, rollout) for rollout in unfinished if not rollout.has_apps}


def _progress(resources: Resources, rollout: Rollout) -> str:
    alive = channel.live_servers(resources.cache)
    reports = {n: channel.read_warm(resources.cache, rollout.deployment_id, n) for n in sorted(rollout.numbers)}
    shares = [f"revision {number} on {len(alive & found.keys())}" for number, found in reports.items()]
    return f"Warm by now: {', '.join(shares)} of {len(alive)} model servers."


def _rollouts(resources: Resources, *filters: object) -> list[Rollout]:
    rolling = select(Deployment).where(is_rolling(), col(Deployment.status) != DeploymentStatus.STOPPED)
    with resources.database.session() as session:
        deployments = session.exec(rolling.where(*filters).order_by(col(Deployment.id))).all()  # type: ignore[arg-type]
        found = [_rollout(session, deployment) for deployment in deployments]
    return [rollout for rollout in found if rollout.numbers]


def _rollout(session: Session, deployment: Deployment) -> Rollout:
    rows = revisions_of(session, [deployment.id])
    numbers = to_warm(deployment, rows)
    has_apps = any(_has_app(row) for row in rows if row.number in numbers)
    return Rollout(deployment.id, deployment.endpoint_key, frozenset(numbers), has_apps)


def _has_app(revision: Revision) -> bool:
    return revision.app is not None


def _advance(resources: Resources, rollout: Rollout) -> bool:
    """Take note of the warm-ups that have ended; return whether all have, or nothing runs that could."""
    alive = channel.live_servers(resources.cache)
    found = {number: _outcome(resources, rollout.deployment_id, number, alive) for number in rollout.numbers}
    outcomes = {number: outcome for number, outcome in found.items() if outcome is not None}
    if outcomes:
        with resources.session() as session:
            is_changed = settle(session, rollout.deployment_id, outcomes)
        # That was published before it came here, so no server reports any more.
        for number in outcomes if is_changed else ():
            channel.forget_warm(resources.cache, rollout.deployment_id, number)
    return not alive or len(outcomes) == len(found)


def _outcome(resources: Resources, deployment_id: str, number: int, alive: set[str]) -> str | None:
    """Return "" if every live server has the revision warm, the first reason why one has not, None before that."""
    reports = channel.read_warm(resources.cache, deployment_id, number)
    reasons = [reports[server] for server in sorted(alive) if reports.get(server)]
    if reasons:
        return reasons[0]
    return "" if alive and alive <= reports.keys() else None
