"""Aliases: names of a model's versions that move, such as ``champion``; deployments may follow them.

The rules are those of MLflow's registry: a version may have several aliases, an alias names one version, and goes with
the version when that is deleted. Other than there only a version that is ready can have one.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ScalarSelect, delete
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from ..kernel.clock import utc_now
from ..kernel.events import record
from ..kernel.ids import new_id
from .errors import AliasNotFound, BadAlias, VersionNotFound, VersionNotReady
from .events import ModelAliasMoved
from .models import ModelAlias, ModelVersion, RegisteredModel
from .schemas import ALIAS, VersionStatus

_ALIAS = re.compile(ALIAS)


def check_alias(alias: str) -> str:
    """Return an alias that may be given.

    Raises:
        BadAlias: If it breaks the rule.
    """
    if not _ALIAS.fullmatch(alias):
        raise BadAlias(
            f"The alias {alias[:64]!r} is not allowed: use a lower-case letter and up to 63 more letters, digits, '-' "
            "and '_'; 'latest' and names like 'v3' are kept for versions themselves.",
            details={"alias": alias[:64]},
        )
    return alias


def set_alias(session: Session, *, model: RegisteredModel, alias: str, version: int) -> ModelVersion:
    """Let an alias name a version, whatever it named before; of two callers at once the last one wins.

    Raises:
        BadAlias: If the alias breaks the rule.
        VersionNotFound: If the model has no such version.
        VersionNotReady: If the version is not ready.
    """
    check_alias(alias)
    # The lock makes a deletion of the version wait for this transaction, and this one for a deletion.
    theirs = select(ModelVersion).where(ModelVersion.model_id == model.id, ModelVersion.version == version)
    found = session.exec(theirs.with_for_update(read=True, key_share=True)).one_or_none()
    if found is None:
        raise VersionNotFound(f"The model {model.id} has no version {version}.")
    if found.status != VersionStatus.READY:
        raise VersionNotReady(f"Version {version} is {found.status}; only a ready version can have an alias.")
    if _point(session, found, alias):
        record(session, ModelAliasMoved(project_id=model.project_id, model_id=model.id, alias=alias))
    return found


def get_version_by_alias(session: Session, model_id: str, alias: str) -> ModelVersion:
    """Return the version that an alias of a model names now.

    Raises:
        AliasNotFound: If the model has no such alias.
    """
    named = select(ModelVersion).join(ModelAlias, col(ModelAlias.version_id) == col(ModelVersion.id))
    found = session.exec(named.where(ModelAlias.model_id == model_id, ModelAlias.name == alias)).one_or_none()
    if found is None:
        raise AliasNotFound(model_id, alias)
    return found


def delete_alias(session: Session, *, model: RegisteredModel, alias: str) -> None:
    """Take an alias away; the version stays, and so does what deployments made of it.

    Raises:
        AliasNotFound: If the model has no such alias.
    """
    theirs = delete(ModelAlias).where(col(ModelAlias.model_id) == model.id, col(ModelAlias.name) == alias)
    if not session.exec(theirs.returning(col(ModelAlias.id))).all():
        raise AliasNotFound(model.id, alias)
    record(session, ModelAliasMoved(project_id=model.project_id, model_id=model.id, alias=alias))


def delete_aliases_of(session: Session, version: ModelVersion) -> None:
    """Take away the aliases of a version that is being deleted."""
    theirs = delete(ModelAlias).where(col(ModelAlias.version_id) == version.id)
    for (alias,) in session.exec(theirs.returning(col(ModelAlias.name))).all():
        record(session, ModelAliasMoved(project_id=version.project_id, model_id=version.model_id, alias=alias))


def version_named(model_id: Any, alias: Any) -> ScalarSelect[int]:
    """Return, for the columns of a query, the number of the version that an alias names; NULL where it names none."""
    named = select(ModelVersion.version).join(ModelAlias, col(ModelAlias.version_id) == col(ModelVersion.id))
    return named.where(col(ModelAlias.model_id) == model_id, col(ModelAlias.name) == alias).scalar_subquery()


def aliases_of_models(session: Session, model_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the aliases of each model with the versions that they name, by alias."""
    named = select(ModelAlias.model_id, ModelAlias.name, ModelVersion.version)
    named = named.join(ModelVersion, col(ModelAlias.version_id) == col(ModelVersion.id))
    found: dict[str, dict[str, int]] = {}
    for model_id, alias, version in _sorted(session.exec(named.where(col(ModelAlias.model_id).in_(model_ids)))):
        found.setdefault(model_id, {})[alias] = version
    return found


def aliases_of_versions(session: Session, version_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the aliases of each version, in the order of the alphabet."""
    theirs = select(ModelAlias.version_id, ModelAlias.name).where(col(ModelAlias.version_id).in_(version_ids))
    found: dict[str, list[str]] = {}
    for version_id, alias in _sorted(session.exec(theirs)):
        found.setdefault(version_id, []).append(alias)
    return found


def _sorted(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(map(tuple, rows))


def _point(session: Session, version: ModelVersion, alias: str) -> bool:
    """Write down what an alias names; return whether that is something else than before."""
    row = ModelAlias(
        id=new_id("als"),
        project_id=version.project_id,
        model_id=version.model_id,
        name=alias,
        version_id=version.id,
    )
    new = insert(ModelAlias).values(**row.model_dump())
    moved = new.on_conflict_do_update(
        index_elements=["model_id", "name"],
        set_={"version_id": version.id, "updated_at": utc_now()},
        where=col(ModelAlias.version_id) != version.id,
    )
    return bool(session.execute(moved.returning(col(ModelAlias.id))).all())
