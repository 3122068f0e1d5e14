"""Deployments that follow an alias: when it names another version, they make a revision of that.

The event of the move does so at once, in the process that moved the alias; the controller's sweep finds what an event
missed. Both compare, under the deployment's lock, the version that was taken last with the one that the alias names
now, so a move makes one revision however often it is looked at, and of several moves the newest counts.
"""

from sqlalchemy import ColumnElement, and_
from sqlmodel import Session, col, select

from ..kernel.clock import utc_now
from ..kernel.resources import Resources
from ..registry import aliases
from ..registry.errors import VersionNotFound, VersionNotServable
from ..registry.events import ModelAliasMoved
from .models import Deployment
from .rollouts import add_revision, locked

# Each may wait for the servers a second or two; the sweep goes on with the rest.
_AT_ONCE = 8


def choose_version(session: Session, deployment: Deployment, *, version: int | None, alias: str | None) -> int | None:
    """Return the version that a change asks for, and note what the deployment follows from now on.

    A number ends the following of an alias; without either, an alias that is followed decides, else the newest version
    that is ready (None).

    Raises:
        AliasNotFound: If the model has no such alias.
    """
    if version is not None:
        release_alias(deployment)
        return version
    followed = deployment.alias if alias is None else alias
    if followed is None:
        return None
    named = aliases.get_version_by_alias(session, deployment.model_id, followed).version
    deployment.alias, deployment.alias_version, deployment.alias_reason = followed, named, None
    return named


def release_alias(deployment: Deployment) -> None:
    """Let the deployment follow no alias any more; its revisions stay."""
    deployment.alias = deployment.alias_version = deployment.alias_reason = None


def follow_move(resources: Resources, event: ModelAliasMoved) -> None:
    """Let the deployments that follow an alias take the version that it names now."""
    follow_aliases(resources, col(Deployment.model_id) == event.model_id, col(Deployment.alias) == event.alias)


def follow_aliases(resources: Resources, *concerned: ColumnElement[bool]) -> None:
    """Let some deployments that are behind take the versions that their aliases name now; any, or where that holds."""
    with resources.database.session() as session:
        behind = select(Deployment.id).where(_is_behind(), *concerned).order_by(col(Deployment.id)).limit(_AT_ONCE)
        ids = list(session.exec(behind))
    for id_ in ids:
        # One transaction each: it is published when that ends, and nobody else's lock is waited for meanwhile.
        with resources.session() as session:
            _follow(session, id_)


def _is_behind() -> ColumnElement[bool]:
    named = aliases.version_named(col(Deployment.model_id), col(Deployment.alias))
    return and_(col(Deployment.alias).is_not(None), col(Deployment.alias_version).is_distinct_from(named))


def _follow(session: Session, deployment_id: str) -> None:
    deployment = locked(session, deployment_id)
    if deployment is None or deployment.alias is None:
        return
    named = session.exec(select(aliases.version_named(deployment.model_id, deployment.alias))).one()
    if named == deployment.alias_version:
        return
    deployment.alias_version, deployment.updated_at = named, utc_now()
    deployment.alias_reason = None if named else f"The alias {deployment.alias!r} is gone; the revisions stay."
    session.add(deployment)
    if named is not None:
        _take(session, deployment, named)


def _take(session: Session, deployment: Deployment, version: int) -> None:
    try:
        add_revision(session, deployment, version=version)
    except (VersionNotFound, VersionNotServable) as error:
        deployment.alias_reason = f"The alias {deployment.alias!r} names version {version}: {error.message}"
        session.add(deployment)
