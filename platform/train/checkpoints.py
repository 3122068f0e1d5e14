"""The newest checkpoint of each job: a row, and a blob in a place that only this job has.

A checkpoint that is replaced, or whose job ended or was deleted, is removed from the object store after the commit; a
job that failed keeps its last one until it is deleted.
"""

from pathlib import Path

from sqlmodel import Session

from ..kernel.clock import utc_now
from ..kernel.events import record
from ..kernel.resources import Resources
from ..kernel.storage import Blob
from ..projects import quotas
from ..projects.blobs import keep_file
from .errors import CheckpointNotFound, JobNotFound
from .events import CheckpointDropped
from .models import JobCheckpoint, TrainingJob
from .schemas import ENDED, CheckpointRead


def subscribe(resources: Resources) -> None:
    """Remove, from this process, the blobs of checkpoints that are dropped from now on."""
    resources.events.subscribe(CheckpointDropped, lambda event: resources.store.delete(event.uri))


def store(resources: Resources, *, job: TrainingJob, upload: Path, epoch: int) -> CheckpointRead:
    """Keep an uploaded file as the job's checkpoint, in place of the former one.

    Raises:
        JobNotFound: If the job was deleted or has ended meanwhile.
    """
    # A place of its own, so that no other row can need a blob that is removed here.
    blob = keep_file(resources, project_id=job.project_id, path=upload, below=f"jobs/{job.id}")
    job_id = job.id
    with resources.session() as session:
        present = session.get(TrainingJob, job_id, with_for_update={"key_share": True})
        if present is None or present.status in ENDED:
            raise JobNotFound(job_id)
        held = session.get(JobCheckpoint, job_id, with_for_update=True)
        if held is not None and held.uri != blob.uri:
            _let_go(session, held)
        row = held or JobCheckpoint(job_id=job_id, epoch=epoch, uri="", sha256="", size_bytes=0)
        row.epoch, row.uri, row.sha256, row.size_bytes = epoch, blob.uri, blob.sha256, blob.size_bytes
        row.stored_at = utc_now()
        session.add(row)
        return CheckpointRead.model_validate(row.model_dump())


def get_checkpoint(session: Session, job: TrainingJob) -> JobCheckpoint:
    """Return a job's newest checkpoint.

    Raises:
        CheckpointNotFound: If there is none.
    """
    held = session.get(JobCheckpoint, job.id)
    if held is None:
        raise CheckpointNotFound(job.id)
    return held


def blob_of(checkpoint: JobCheckpoint) -> Blob:
    """Say where the content of a checkpoint lies."""
    return Blob(uri=checkpoint.uri, sha256=checkpoint.sha256, size_bytes=checkpoint.size_bytes)


def drop(session: Session, job_id: str) -> None:
    """Remove a job's checkpoint, if it has one."""
    held = session.get(JobCheckpoint, job_id)
    if held is not None:
        _let_go(session, held)
        session.delete(held)


def _let_go(session: Session, held: JobCheckpoint) -> None:
    quotas.release(session, held.uri)
    record(session, CheckpointDropped(uri=held.uri))
