"""The rules of secrets: written by people, read by the jobs of the project, and by nobody else."""

import re
from collections.abc import Iterable

from sqlmodel import Session, col, select

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.clock import utc_now
from ..kernel.db import unless_refused
from ..kernel.envelope import Envelope, MasterKeys
from ..kernel.ids import new_id
from ..kernel.pagination import Page, PageQuery, paginate
from .errors import BadSecretName, JobRequired, SecretNotFound, SecretWrittenTwice
from .models import Secret
from .service import authorize

REFERENCE = "secret://"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def put_secret(
    session: Session, *, masters: MasterKeys, project_id: str, name: str, value: str, created_by: str
) -> Secret:
    """Seal a value under a name; a former value is gone.

    Raises:
        BadSecretName: If the name is not a plain one.
        SecretWrittenTwice: If somebody else writes a new one of that name at this moment.
    """
    if not _NAME.fullmatch(name):
        raise BadSecretName(name)
    held = _find(session, project_id, name, lock=True)
    envelope = masters.seal(value.encode(), about=_about(project_id, name))
    if held is not None:
        _fill(held, envelope)
        held.updated_at = utc_now()
        session.add(held)
        return held
    secret = Secret(id=new_id("sec"), project_id=project_id, name=name, created_by=created_by, **vars(envelope))
    with unless_refused(session, SecretWrittenTwice(name)):
        session.add(secret)
    return secret


def list_secrets(session: Session, *, project_id: str, query: PageQuery) -> Page[Secret]:
    """Return the secrets of a project, newest first."""
    return paginate(session, Secret, query, col(Secret.project_id) == project_id)


def delete_secret(session: Session, *, project_id: str, name: str) -> None:
    """Remove a secret.

    Raises:
        SecretNotFound: If there is none of that name.
    """
    session.delete(_get(session, project_id, name))


def open_secret(session: Session, *, principal: Principal, masters: MasterKeys, project_id: str, name: str) -> str:
    """Return the value of a secret to a running job of the project.

    Raises:
        ProjectNotFound: If the caller is a stranger there.
        JobRequired: If the caller is no job.
        SecretNotFound: If there is none of that name.
    """
    authorize(session, principal, project_id, Permission.SECRET_READ)
    if principal.kind != "job":
        raise JobRequired
    secret = _get(session, project_id, name)
    return masters.open(_envelope(secret), about=_about(project_id, name)).decode()


def check_references(session: Session, project_id: str, values: Iterable[str]) -> None:
    """Hold every ``secret://name`` among the values against what the project has.

    Raises:
        SecretNotFound: If one of them is not there.
    """
    wanted = {value.removeprefix(REFERENCE) for value in values if value.startswith(REFERENCE)}
    known = select(Secret.name).where(Secret.project_id == project_id, col(Secret.name).in_(wanted))
    found: list[str] = list(session.exec(known))
    if missing := sorted(wanted - set(found)):
        raise SecretNotFound(missing[0])


def are_kept(session: Session) -> bool:
    """Tell whether any project has a secret."""
    return session.exec(select(Secret.id).limit(1)).first() is not None


def rewrap_secrets(session: Session, masters: MasterKeys, *, limit: int = 500) -> int:
    """Wrap under the current master key what an earlier one wrapped, and return how many secrets that were."""
    old = select(Secret).where(Secret.key_id != masters.current).limit(limit)
    rows = session.exec(old.with_for_update(skip_locked=True)).all()
    for row in rows:
        _fill(row, masters.rewrap(_envelope(row), about=_about(row.project_id, row.name)))
        session.add(row)
    return len(rows)


def _find(session: Session, project_id: str, name: str, *, lock: bool = False) -> Secret | None:
    statement = select(Secret).where(Secret.project_id == project_id, Secret.name == name)
    return session.exec(statement.with_for_update() if lock else statement).one_or_none()


def _get(session: Session, project_id: str, name: str) -> Secret:
    secret = _find(session, project_id, name)
    if secret is None:
        raise SecretNotFound(name)
    return secret


def _about(project_id: str, name: str) -> str:
    """Bind a sealed value to its place: copied to another project's row it does not open."""
    return f"{project_id}/{name}"


def _envelope(secret: Secret) -> Envelope:
    return Envelope(key_id=secret.key_id, wrapped_key=secret.wrapped_key, sealed=secret.sealed)


def _fill(secret: Secret, envelope: Envelope) -> None:
    secret.key_id, secret.wrapped_key, secret.sealed = envelope.key_id, envelope.wrapped_key, envelope.sealed
