"""Brings what was committed to the model servers, and repairs what was lost on the way.

Events publish at once, in the process that made the change and before it answers its client. The controller's sweep
closes what a dead process, an empty or older Valkey, or a slow model server left open.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, tuple_, update
from sqlmodel import Session, col, select

from ..auth import keys
from ..auth.events import AccountChanged, ApiKeyChanged, ApiKeyRotated, SessionRevoked
from ..kernel.resources import Resources
from ..projects import service as projects
from ..projects.events import MembershipChanged
from ..registry.events import ModelAliasMoved
from ..serving.published import channel
from ..serving.published.copies import store_copy
from ..serving.published.documents import SealedDocument, read_envelope
from ..serving.published.grants import ADMINISTRATORS_KEY, REVOCATIONS_KEY
from . import service, warming
from .bindings import follow_aliases, follow_move
from .events import DeploymentChanged
from .models import Deployment, Publication
from .publication import Subject, announce, commit, mark_ready
from .schemas import DeploymentStatus, Tier
from .tiers import ABOUT_APP

_BATCH = 200
# Signed anew by one sweep; each takes some 5 ms, and rollouts wait meanwhile.
_RESEALED = 500
_ANSWERING = (DeploymentStatus.READY, DeploymentStatus.DEGRADED)
_NO_SERVER = "No model server is running; the endpoint answers as soon as one is."
_NOT_EVERYWHERE = "Not every model server follows the latest change yet."


@dataclass(frozen=True)
class Known:
    """A publication without its content, as the sweep compares it."""

    subject: Subject
    version: int
    signed_by: str

    @property
    def name(self) -> str:
        """The document's name across kinds."""
        return f"{self.subject.kind}:{self.subject.key}"


def subscribe(resources: Resources) -> None:
    """Publish, in this process, whatever changes from now on."""
    events = resources.events
    events.subscribe(
        DeploymentChanged,
        lambda event: publish_endpoint(resources, project_id=event.project_id, key=event.endpoint_key),
    )
    events.subscribe(ApiKeyChanged, lambda event: publish_grants(resources, event.project_id))
    events.subscribe(ApiKeyRotated, lambda event: follow_rotation(resources, event))
    events.subscribe(ModelAliasMoved, lambda event: follow_move(resources, event))
    events.subscribe(MembershipChanged, lambda event: publish_grants(resources, event.project_id))
    events.subscribe(SessionRevoked, lambda event: publish_revocations(resources))
    events.subscribe(AccountChanged, lambda event: publish_account(resources, event.user_id))


def publish_endpoint(resources: Resources, *, project_id: str, key: str) -> None:
    """Publish the present state of an endpoint, and wait a while for the model servers to hold it."""
    sealed = commit(resources, Subject("endpoint", key, project_id))
    if announce(resources, sealed):
        mark_ready(resources, sealed)
        warming.follow(resources, key)


def publish_grants(resources: Resources, project_id: str) -> None:
    """Publish who may do what in a project, and wait a while for the model servers to hold it."""
    announce(resources, commit(resources, Subject("grants", project_id, project_id)))


def follow_rotation(resources: Resources, event: ApiKeyRotated) -> None:
    """Let the successor of a key invoke where the access policy of an endpoint names the key."""
    with resources.session() as session:
        service.admit_successor(
            session, project_id=event.project_id, key_id=event.key_id, successor_id=event.successor_id
        )


def publish_revocations(resources: Resources) -> None:
    """Publish which sessions and users are dead, and wait a while for the model servers to hold it."""
    announce(resources, commit(resources, Subject("revocations", REVOCATIONS_KEY)))


def publish_administrators(resources: Resources) -> None:
    """Publish whose logins may do everything everywhere, and wait a while for the model servers to hold it."""
    announce(resources, commit(resources, Subject("administrators", ADMINISTRATORS_KEY)))


def publish_account(resources: Resources, user_id: str) -> None:
    """Publish what an account is worth now: whether it is dead or an administrator's, and its rights in projects."""
    publish_revocations(resources)
    publish_administrators(resources)
    with resources.database.session() as session:
        touched = {*projects.project_ids_of(session, user_id), *keys.projects_with_keys_of(session, user_id)}
    for project_id in sorted(touched):
        publish_grants(resources, project_id)


def sweep(resources: Resources) -> None:
    """Close the gap between what was committed and what the model servers can read; cheap when there is none.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        CacheUnavailable: If Valkey does not answer.
    """
    resources.redeliver()
    follow_aliases(resources)
    known = _reseal(resources, _known(resources))
    _republish(resources, known)
    _settle(resources, unfinished=warming.follow_all(resources))


def store_copies(resources: Resources) -> None:
    """Copy to the object store what it lacks; one writer, the holder of the lease, so no older copy comes last.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        StoreUnavailable: If the object store does not answer; the others are copied when it does.
    """
    behind = (
        select(Publication.kind, Publication.key, Publication.project_id)
        .where(col(Publication.stored_version) < col(Publication.version))
        # In another order each time, so that one copy that is refused does not keep back the others.
        .order_by(func.random())
    )
    with resources.database.session() as session:
        subjects = [Subject(*row) for row in session.exec(behind)]
    for sealed in _sealed(resources, subjects):
        store_copy(resources.store, sealed)
        with resources.database.session() as session:
            names = {"kind": sealed.kind, "key": sealed.key}
            session.execute(update(Publication).filter_by(**names).values(stored_version=sealed.version))


def _known(resources: Resources) -> list[Known]:
    columns = (
        Publication.kind,
        Publication.key,
        Publication.project_id,
        Publication.version,
        Publication.signed_by,
    )
    with resources.database.session() as session:
        rows = session.execute(select(*columns)).all()  # type: ignore[call-overload]
    return [Known(Subject(*row[:3]), *row[3:]) for row in rows]


def _reseal(resources: Resources, known: list[Known]) -> list[Known]:
    """Sign again what carries the signature of a key that was replaced; of very many the rest comes next."""
    current = resources.signer.key_id
    stale = [each for each in known if each.signed_by != current]
    for each in stale[:_RESEALED]:
        commit(resources, each.subject)
    return _known(resources) if stale else known


def _republish(resources: Resources, known: Sequence[Known]) -> None:
    held = channel.published_versions(resources.cache)
    for each in known:
        if (found := held.get(each.name, 0)) > each.version:
            # The database is older than Valkey: it was restored from a backup.
            channel.publish(resources.cache, commit(resources, each.subject, above=found))
    for sealed in _sealed(resources, [each.subject for each in known if held.get(each.name, 0) < each.version]):
        channel.publish(resources.cache, sealed)
    channel.mark_complete(resources.cache)


def _settle(resources: Resources, *, unfinished: Mapping[str, str]) -> None:
    """Mark deployments ready whose change has arrived, remind model servers of the others, count the replicas."""
    servers = len(channel.live_servers(resources.cache))
    with resources.database.session() as session:
        waiting = _deploying(session)
        pooled = (col(Deployment.status).in_(_ANSWERING), col(Deployment.tier) != Tier.DEDICATED)
        miscounted = col(Deployment.replicas) != servers
        session.execute(update(Deployment).where(*pooled, miscounted).values(replicas=servers))
    for sealed in _sealed(resources, waiting):
        if announce(resources, sealed, timeout_s=0):
            mark_ready(resources, sealed)
            if sealed.key in unfinished:
                _explain(resources, sealed.key, unfinished[sealed.key])
        else:
            _explain(resources, sealed.key, _NOT_EVERYWHERE if servers else _NO_SERVER)


def _deploying(session: Session) -> list[Subject]:
    waiting = select(Deployment.endpoint_key, Deployment.project_id).where(
        Deployment.status == DeploymentStatus.DEPLOYING, col(Deployment.published_version).is_not(None)
    )
    return [Subject("endpoint", key, project_id) for key, project_id in session.exec(waiting)]


def _explain(resources: Resources, key: str, reason: str) -> None:
    waiting = (
        col(Deployment.endpoint_key) == key,
        col(Deployment.status) == DeploymentStatus.DEPLOYING,
        col(Deployment.reason).is_distinct_from(reason),
        # That is said for as long as it is so, and lasts longer.
        func.coalesce(col(Deployment.reason), "").not_like(f"{ABOUT_APP}%"),
    )
    with resources.database.session() as session:
        session.execute(update(Deployment).where(*waiting).values(reason=reason))


def _sealed(resources: Resources, subjects: Sequence[Subject]) -> Iterator[SealedDocument]:
    """Read published documents as they travel, a batch at a time; no transaction is open while one is in use."""
    for start in range(0, len(subjects), _BATCH):
        names = [(subject.kind, subject.key) for subject in subjects[start : start + _BATCH]]
        wanted = select(Publication.envelope).where(tuple_(col(Publication.kind), col(Publication.key)).in_(names))
        with resources.database.session() as session:
            envelopes = list(session.exec(wanted))
        yield from map(read_envelope, envelopes)
