"""From the queue in PostgreSQL to Ray jobs and back.

A job is claimed in one transaction and submitted after it, with no session open. A controller that dies in between
leaves a claimed job that its cluster does not know; the next sweep submits it. Ray takes a submission id once, so a job
whose submission was not noted is found there and not started again.
"""

from collections.abc import Callable, Collection, Mapping

import structlog
from sqlmodel import Session, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from ..compute.jobs import JobRefused
from ..kernel.clock import utc_now
from ..kernel.errors import ExternalServiceError
from ..kernel.resources import Resources
from . import service, transitions
from .models import TrainingJob
from .plan import Action, Admit, Desired, End, Follow, Note, Restart, Stop, Submit, plan, signal_of, strays
from .programs import program_of
from .runtime import JobRuntime, JobState
from .schemas import ENDED, FailureType, JobStatus, TrainingError

log = structlog.get_logger("raymill.train")

# Ray's agent on the driver's node holds the log; when it does not give it for so long, the job ends without.
_LOG_PATIENCE_S = 30.0


def step(resources: Resources, runtime: JobRuntime) -> None:
    """Look, decide, act for one cluster; a job whose action fails is left as it is for the next sweep."""
    cluster_id = runtime.cluster_id()
    with resources.session() as session:
        desired = [transitions.desired_of(job) for job in _concerned(session, cluster_id)]
    observed = runtime.states()
    sweep = _Sweep(resources, runtime, cluster_id, observed, {job.id: job for job in desired})
    for action in plan(desired, observed, max_concurrent=resources.settings.controller.max_concurrent_jobs):
        sweep.do(action)
    for ray_id in _unwanted(resources, strays(desired, observed), cluster_id):
        log.warning("stray_job_stopped", ray_id=ray_id)
        runtime.stop(ray_id)


def recover(resources: Resources, living_clusters: Callable[[Session], Collection[str]]) -> None:
    """Take over the jobs of clusters that are gone: each ends or goes back into the queue, by its policy."""
    with resources.session() as session:
        claimed = _unended().where(col(TrainingJob.cluster_id).is_not(None))
        lost = claimed.where(col(TrainingJob.cluster_id).not_in(living_clusters(session)))
        for job in session.exec(lost.with_for_update(skip_locked=True)):
            log.warning("cluster_lost", job_id=job.id, cluster_id=job.cluster_id)
            transitions.lose(session, job, FailureType.LOST_CLUSTER)


def _unended() -> SelectOfScalar[TrainingJob]:
    living = select(TrainingJob).where(col(TrainingJob.status).in_([JobStatus.PENDING, JobStatus.RUNNING]))
    return living.order_by(col(TrainingJob.id))


def _concerned(session: Session, cluster_id: str) -> list[TrainingJob]:
    """Return what waits for any cluster, and what belongs to this one."""
    ours = or_(col(TrainingJob.cluster_id).is_(None), col(TrainingJob.cluster_id) == cluster_id)
    return list(session.exec(_unended().where(ours)))


def _unwanted(resources: Resources, running: set[str], cluster_id: str) -> list[str]:
    """Return those Ray jobs that are ours by name, and that by a second look the cluster should not run."""
    if not running:
        return []
    ids = {ray_id.partition("-")[0] for ray_id in running}
    with resources.session() as session:
        jobs = {job.id: job for job in session.exec(select(TrainingJob).where(col(TrainingJob.id).in_(ids)))}
    wanted = {job.ray_id for job in jobs.values() if job.status not in ENDED and job.cluster_id == cluster_id}
    return [ray_id for ray_id in sorted(running - wanted) if ray_id.partition("-")[0] in jobs]


class _Sweep:
    """One sweep's actions, with what was seen at its beginning."""

    def __init__(
        self,
        resources: Resources,
        runtime: JobRuntime,
        cluster_id: str,
        observed: Mapping[str, JobState],
        desired: Mapping[str, Desired],
    ) -> None:
        self._resources = resources
        self._runtime = runtime
        self._cluster_id = cluster_id
        self._observed = observed
        self._desired = desired

    def do(self, action: Action) -> None:
        try:
            self._act(action, self._desired[action.job_id].ray_id)
        except ExternalServiceError as error:
            log.warning("job_action_failed", action=type(action).__name__, job_id=action.job_id, reason=error.message)

    def _act(self, action: Action, ray_id: str) -> None:
        match action:
            case Admit(job_id):
                if self._claim(job_id):
                    self._submit(job_id, ray_id)
            case Submit(job_id):
                self._submit(job_id, ray_id)
            case Note(job_id, status, message):
                self._change(job_id, lambda session, job: transitions.note(session, job, status, message))
            case Stop():
                self._runtime.stop(ray_id)
            case Follow(job_id):
                self._follow(job_id, ray_id)
            case Restart(job_id, failure):
                self._restart(job_id, ray_id, failure)
            case End(job_id, status, failure):
                self._end(job_id, ray_id, status, failure)

    def _claim(self, job_id: str) -> bool:
        with self._resources.session() as session:
            return transitions.claim(session, job_id, self._cluster_id)

    def _change(self, job_id: str, change: Callable[[Session, TrainingJob], None]) -> bool:
        """Change a job that is still ours, and tell whether it was."""
        with self._resources.session() as session:
            job = transitions.find_claimed(session, job_id, self._cluster_id)
            if job is None:
                return False
            change(session, job)
            return True

    def _submit(self, job_id: str, ray_id: str) -> None:
        with self._resources.session() as session:
            job = transitions.find_claimed(session, job_id, self._cluster_id)
            if job is None:
                return
            api_key = transitions.make_key(session, job)
            program, request_id = program_of(job), job.request_id
        try:
            self._runtime.submit(ray_id, program, api_key=api_key, request_id=request_id)
        except JobRefused as error:
            refusal = TrainingError(type=FailureType.NOT_STARTED, message=error.message)
            self._change(job_id, lambda session, job: transitions.end(session, job, JobStatus.FAILED, refusal))
            return
        self._change(job_id, _submitted)
        log.info("job_submitted", job_id=job_id, ray_id=ray_id, request_id=request_id)

    def _follow(self, job_id: str, ray_id: str) -> None:
        output = self._runtime.glance(ray_id)
        if output is not None:
            self._change(job_id, lambda session, job: service.append_log(session, job, output))

    def _restart(self, job_id: str, ray_id: str, failure: FailureType) -> None:
        output = self._last_output(ray_id, failure)

        def restart(session: Session, job: TrainingJob) -> None:
            service.append_log(session, job, output)
            transitions.lose(session, job, failure)

        if self._change(job_id, restart):
            log.warning("job_lost", job_id=job_id, failure=failure)

    def _end(self, job_id: str, ray_id: str, status: JobStatus, failure: FailureType | None) -> None:
        output = self._last_output(ray_id, failure)
        error = self._error(ray_id, failure, output) if failure else None

        def end(session: Session, job: TrainingJob) -> None:
            service.append_log(session, job, output)
            transitions.end(session, job, status, error)

        if self._change(job_id, end):
            log.info("job_ended", job_id=job_id, status=status, failure=failure)

    def _last_output(self, ray_id: str, failure: FailureType | None) -> str:
        state = self._observed.get(ray_id)
        if state is None or failure is FailureType.LOST_NODE:
            return ""
        try:
            return self._runtime.logs(ray_id)
        except ExternalServiceError:
            if state.ended_at is None or utc_now().timestamp() - state.ended_at < _LOG_PATIENCE_S:
                raise
            log.warning("log_lost", ray_id=ray_id)
            return ""

    def _error(self, ray_id: str, failure: FailureType, output: str) -> TrainingError:
        state = self._observed.get(ray_id) or JobState("FAILED")
        return TrainingError(type=failure, message=_message(failure, state, output))


def _submitted(session: Session, job: TrainingJob) -> None:
    job.submitted_at = utc_now()
    session.add(job)


def _message(failure: FailureType, state: JobState, output: str) -> str:
    if failure is FailureType.DRIVER_KILLED:
        return f"The job's driver was killed by signal {signal_of(state)}, by hand or for want of memory."
    if failure in {FailureType.ENVIRONMENT_FAILED, FailureType.NOT_STARTED}:
        return state.message
    if failure in transitions.LOST:
        return f"{transitions.LOST[failure]}; start it again."
    lines = [line for line in output.splitlines() if line.strip()]
    # The driver's last line is what went wrong; the traceback above it is in the log.
    return lines[-1] if lines else "The job ended without a word."
