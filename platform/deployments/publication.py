"""One published document: compile, seal, keep in PostgreSQL, hand to the model servers.

The version is allotted and the state is read under the row lock of the document, so a later version always holds a
later state. Handing it on happens after that transaction.
"""

import json
from dataclasses import dataclass
from hashlib import sha256

import structlog
from sqlalchemy import case, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from ..auth import keys, users
from ..auth import service as accounts
from ..kernel.cache import CacheUnavailable
from ..kernel.clock import utc_now
from ..kernel.resources import Resources
from ..projects import service as projects
from ..serving.published import channel
from ..serving.published.documents import Document, SealedDocument, Tombstone, read_envelope, seal
from ..serving.published.grants import ProjectGrants
from ..serving.published.table import EndpointDocument
from .compile import compile_administrators, compile_endpoint, compile_grants, compile_revocations
from .models import Deployment, Publication, Revision
from .rollouts import is_rolling
from .schemas import DeploymentStatus, Tier
from .tiers import awaits_app

log = structlog.get_logger("raymill.deployments")


@dataclass(frozen=True)
class Subject:
    """One document by its name, and the project whose state it holds."""

    kind: str
    key: str
    project_id: str = ""


def commit(resources: Resources, subject: Subject, *, above: int = 0) -> SealedDocument:
    """Compile a document and keep it, under a new version unless nothing changed since the last.

    Args:
        resources: The open connections.
        subject: Which document.
        above: A version that must be exceeded, because Valkey holds it.
    """
    with resources.database.session() as session:
        row = _lock(session, subject)
        document = _compile(resources, session, subject)
        state, signed_by = _fingerprint(document), resources.signer.key_id
        if (state, signed_by) != (row.state_sha256, row.signed_by) or row.version < above:
            version = max(row.version + 1, above + 1, int(utc_now().timestamp() * 1000))
            sealed = seal(document.model_copy(update={"version": version}), resources.signer)
            row.version, row.envelope, row.published_at = version, sealed.to_bytes(), utc_now()
            row.state_sha256, row.signed_by = state, signed_by
            session.add(row)
        _note_version(session, document, row.version)
        return read_envelope(row.envelope)


def announce(resources: Resources, sealed: SealedDocument, *, timeout_s: float = 2.0) -> bool:
    """Hand a document to the model servers; tell whether every live one holds it (False if there is none)."""
    try:
        channel.publish(resources.cache, sealed)
        acknowledged = channel.await_acknowledgement(resources.cache, sealed, timeout_s=timeout_s)
    except CacheUnavailable:
        log.warning("document_not_published", document=sealed.name, version=sealed.version)
        return False
    return acknowledged


def mark_ready(resources: Resources, sealed: SealedDocument) -> None:
    """Note that every live model server holds this version of the endpoint, unless an app of it does not run yet."""
    try:
        replicas = len(channel.live_servers(resources.cache))
    except CacheUnavailable:
        return
    waiting = (
        col(Deployment.endpoint_key) == sealed.key,
        col(Deployment.published_version) == sealed.version,
        col(Deployment.status) == DeploymentStatus.DEPLOYING,
        ~awaits_app(),
        ~is_rolling(),
    )
    # A dedicated deployment has replicas of its own, which are counted where they are made.
    of_its_own = (col(Deployment.tier) == Tier.DEDICATED, col(Deployment.replicas))
    ready = {"status": DeploymentStatus.READY, "reason": None, "replicas": case(of_its_own, else_=replicas)}
    with resources.database.session() as session:
        session.execute(update(Deployment).where(*waiting).values(**ready))


def _lock(session: Session, subject: Subject) -> Publication:
    new = Publication(kind=subject.kind, key=subject.key, project_id=subject.project_id)
    session.execute(insert(Publication).values(**new.model_dump()).on_conflict_do_nothing())
    return session.get_one(Publication, (subject.kind, subject.key), with_for_update=True)


def _compile(resources: Resources, session: Session, subject: Subject) -> Document:
    document: Document | None
    match subject.kind:
        case "endpoint":
            document = _endpoint(session, subject.key)
        case "grants":
            document = _grants(session, subject.project_id)
        case "administrators":
            document = compile_administrators(users.living_admins(session))
        case _:
            sessions = accounts.revoked_sessions(session, resources.settings.auth)
            document = compile_revocations(sessions, accounts.disabled_users(session))
    return document or Tombstone(kind=subject.kind, key=subject.key, version=1)


def _endpoint(session: Session, key: str) -> EndpointDocument | None:
    # Locked, so that no change can slip in between this reading and the note of its version.
    deployment = session.exec(select(Deployment).where(Deployment.endpoint_key == key).with_for_update()).one_or_none()
    if deployment is None:
        return None
    revisions = session.exec(select(Revision).where(Revision.deployment_id == deployment.id))
    return compile_endpoint(deployment, revisions)


def _grants(session: Session, project_id: str) -> ProjectGrants | None:
    if projects.find_project(session, project_id) is None:
        return None
    return compile_grants(
        project_id,
        members=projects.member_permissions(session, project_id),
        keys=keys.active_keys(session, project_id),
        disabled=accounts.disabled_users(session),
    )


def _note_version(session: Session, document: Document, version: int) -> None:
    if isinstance(document, EndpointDocument):
        held = update(Deployment).where(col(Deployment.endpoint_key) == document.key)
        begun = (col(Deployment.status) == DeploymentStatus.PENDING, DeploymentStatus.DEPLOYING)
        status = case(begun, else_=col(Deployment.status))
        session.execute(held.values(published_version=version, status=status))


def _fingerprint(document: Document) -> str:
    # Sets have no order of their own, so the model's JSON differs from process to process.
    state = document.model_dump(exclude={"version"})
    return sha256(json.dumps(state, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)
