"""Routes of secrets; no answer but the one to a running job holds a value."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from ..auth.deps import CurrentPrincipal
from ..auth.needs import Caller, needs
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.envelope import MasterKeys
from ..kernel.pagination import Page
from . import secrets
from .deps import SecretReader, SecretWriter
from .schemas import SecretRead, SecretValue, SecretWrite

router = APIRouter(prefix="/projects/{project_id}/secrets", tags=["projects"])


def _masters(resources: AppResources) -> MasterKeys:
    return MasterKeys.load(resources.settings.keys_dir)


Masters = Annotated[MasterKeys, Depends(_masters)]


@router.get("")
def list_secrets(project: SecretReader, session: DbSession, query: Paging) -> Page[SecretRead]:
    """List the secrets of a project without their values."""
    return secrets.list_secrets(session, project_id=project.id, query=query).map(SecretRead.model_validate)


@router.put("/{name}")
def put_secret(
    name: str,
    data: SecretWrite,
    project: SecretWriter,
    session: DbSession,
    principal: CurrentPrincipal,
    masters: Masters,
) -> SecretRead:
    """Keep a value under a name; a former value is gone."""
    value = data.value.get_secret_value()
    secret = secrets.put_secret(
        session, masters=masters, project_id=project.id, name=name, value=value, created_by=principal.id
    )
    return SecretRead.model_validate(secret)


@router.delete("/{name}", status_code=204)
def delete_secret(name: str, project: SecretWriter, session: DbSession) -> None:
    """Remove a secret."""
    secrets.delete_secret(session, project_id=project.id, name=name)


@router.get("/{name}/value")
@needs(Permission.SECRET_READ, caller=Caller.JOB)
def get_secret_value(
    project_id: str,
    name: str,
    session: DbSession,
    principal: CurrentPrincipal,
    masters: Masters,
    response: Response,
) -> SecretValue:
    """Give the value of a secret to a running job of the project, and to nobody else."""
    response.headers["Cache-Control"] = "no-store"
    value = secrets.open_secret(session, principal=principal, masters=masters, project_id=project_id, name=name)
    return SecretValue(value=value)
