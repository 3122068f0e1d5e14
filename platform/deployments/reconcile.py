"""From the dedicated revisions in PostgreSQL to their apps, and back to what became of them.

Every cluster runs every app, and its controller starts by waiting for them a while, so that a new cluster is complete
before KubeRay lets the old one go. An app whose revision lost its traffic stays a while, one of each deployment, for a
quick way back; one whose deployment is gone goes at once.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from threading import Event

import structlog
from sqlmodel import Session

from ..kernel.errors import ExternalServiceError
from ..kernel.resources import Resources
from .observations import NOWHERE, has_failed, is_there, needs_app, note, revisions_with_apps, wanted_app
from .runtime import AppRuntime, AppState, WantedApp
from .schemas import DeploymentStatus, RevisionStatus
from .tiers import LATE

log = structlog.get_logger("raymill.deployments")

_DELETING = "DELETING"
_FIRST_RETRY_S, _LAST_RETRY_S = 10.0, 300.0


@dataclass(frozen=True)
class Make:
    """Deploy an app that is missing, other than wanted, or failed some time ago."""

    name: str


@dataclass(frozen=True)
class Remove:
    """Delete an app that nothing wants."""

    name: str


Action = Make | Remove


def plan(
    wanted: Mapping[str, str],
    observed: Mapping[str, AppState],
    *,
    kept: Collection[str] = (),
    may_retry: Callable[[str], bool] = lambda name: True,
) -> list[Action]:
    """Return what closes the gap.

    Args:
        wanted: Fingerprints by name.
        observed: What the cluster has.
        kept: Names that are not wanted and may stay.
        may_retry: Whether a failed app may be tried again by now.
    """
    actions: list[Action] = [
        Make(name)
        for name, fingerprint in wanted.items()
        if _is_to_be_made(observed.get(name), fingerprint, partial(may_retry, name))
    ]
    unwanted = observed.keys() - wanted.keys() - set(kept)
    return actions + [Remove(name) for name in sorted(unwanted) if observed[name].status != _DELETING]


def _is_to_be_made(state: AppState | None, fingerprint: str, may_retry: Callable[[], bool]) -> bool:
    if state is None:
        return True
    if state.status == _DELETING:
        return False
    # While Serve does not say what an app was made from, it is left alone.
    if state.fingerprint is not None and state.fingerprint != fingerprint:
        return True
    return has_failed(state) and may_retry()


class Retries:
    """When failed apps may be tried again: after pauses that double."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._due: dict[str, tuple[float, float]] = {}

    def may(self, name: str) -> bool:
        """Tell whether it is time; the first question begins the first pause."""
        now = self._monotonic()
        due, pause_s = self._due.setdefault(name, (now + _FIRST_RETRY_S, _FIRST_RETRY_S))
        if now < due:
            return False
        pause_s = min(pause_s * 2, _LAST_RETRY_S)
        self._due[name] = (now + pause_s, pause_s)
        return True

    def forget(self, names: Collection[str]) -> None:
        """Begin anew with those that do well or are gone."""
        for name in self._due.keys() & set(names):
            del self._due[name]


class DedicatedApps:
    """The apps of one cluster."""

    def __init__(
        self,
        resources: Resources,
        runtime: AppRuntime,
        *,
        is_heard: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with no app known.

        Args:
            resources: The open connections.
            runtime: Where the apps run.
            is_heard: Whether this cluster is, of all, the one whose word on the apps is written down.
            monotonic: The clock.
        """
        self._resources = resources
        self._runtime = runtime
        self._is_heard = is_heard
        self._monotonic = monotonic
        self._keep_s = resources.settings.controller.keep_apps_s
        self._patience_s = resources.settings.controller.app_patience_s
        #: Set when every app runs here, apart from those that fail, or were late before this began.
        self.whole = Event()
        self._given_up: set[str] = set()
        self._wanted_at: dict[str, float] = {}
        self._absent_since: dict[tuple[str, str], float] = {}
        self._retries = Retries(monotonic)

    def begin(self) -> None:
        """Find out whether there is anything to wait for, before the first step may be taken.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer.
        """
        with self._resources.session() as session:
            rows = [(row.app or "", row.app_status) for row, of in revisions_with_apps(session) if needs_app(of, row)]
        self._given_up = {name for name, status in rows if status == LATE}
        if len(rows) == len(self._given_up):
            self.whole.set()

    def step(self) -> None:
        """Look, decide, act, and note what became of the apps; one that fails holds up no other.

        Raises:
            ClusterUnreachable: If the cluster does not answer.
            DatabaseUnavailable: If PostgreSQL does not answer.
        """
        with self._resources.session() as session:
            wanted, living = _wanted(session)
        observed = self._runtime.observe()
        now = self._monotonic()
        self._wanted_at |= dict.fromkeys(wanted, now)
        self._retries.forget([name for name, state in observed.items() if not has_failed(state)])
        kept = self._kept({name: of for name, of in living.items() if name not in wanted}, observed, now)
        fingerprints = {name: app.fingerprint for name, app in wanted.items()}
        actions = plan(fingerprints, observed, kept=kept, may_retry=self._retries.may)
        for action in actions:
            self._do(action, wanted)
        self._wanted_at = {name: self._wanted_at.get(name, now) for name in observed.keys() | wanted.keys()}
        absent = {name for name, wish in fingerprints.items() if not is_there(observed.get(name, NOWHERE), wish)}
        late = self._late({name: fingerprints[name] for name in absent}, now)
        if all(name in self._given_up or has_failed(observed.get(name, NOWHERE)) for name in absent):
            self.whole.set()
        if self._is_heard():
            removed = {action.name for action in actions if isinstance(action, Remove)}
            left = {name: state for name, state in observed.items() if name not in removed}
            note(self._resources, left, late=late)
        self._runtime.stand_by(wanted.values(), observed)

    def _kept(self, idle: Mapping[str, str], observed: Mapping[str, AppState], now: float) -> set[str]:
        """Return of each deployment the app that was wanted last, while that is not long ago.

        Args:
            idle: The deployments of apps that are not wanted, by the names of the apps, oldest first.
            observed: What the cluster has.
            now: The present moment.
        """
        last: dict[str, tuple[float, str]] = {}
        for name, deployment_id in idle.items():
            at = self._wanted_at.get(name, now)
            is_kept = name in observed and not has_failed(observed[name]) and now - at < self._keep_s
            if is_kept and at >= last.get(deployment_id, (at, ""))[0]:
                last[deployment_id] = at, name
        return {name for _, name in last.values()}

    def _late(self, absent: Mapping[str, str], now: float) -> set[str]:
        """Return which of the apps that do not run as they are wanted have not for longer than the patience."""
        # By what is wanted, too: another wish begins another wait.
        self._absent_since = {wish: self._absent_since.get(wish, now) for wish in absent.items()}
        return {name for (name, _), since in self._absent_since.items() if now - since >= self._patience_s}

    def _do(self, action: Action, wanted: Mapping[str, WantedApp]) -> None:
        try:
            match action:
                case Make(name):
                    log.info("app_made", app=name)
                    self._runtime.make(wanted[name])
                case Remove(name):
                    log.info("app_removed", app=name)
                    self._runtime.remove(name)
        except ExternalServiceError as error:
            log.warning("app_action_failed", app=action.name, reason=error.message)
        except Exception:  # Ray raises whatever went wrong; the other apps must not wait for this one
            log.exception("app_action_failed", app=action.name)


def _wanted(session: Session) -> tuple[dict[str, WantedApp], dict[str, str]]:
    """Return the apps that are needed, and the deployments of all to which there may be a way back, oldest first."""
    rows = revisions_with_apps(session)
    needed = {
        revision.app: wanted_app(revision, deployment)
        for revision, deployment in rows
        if needs_app(deployment, revision)
    }
    living = {
        revision.app or "": deployment.id
        for revision, deployment in rows
        if deployment.status != DeploymentStatus.STOPPED and revision.status != RevisionStatus.FAILED
    }
    return {name: app for name, app in needed.items() if name}, living
