"""Dependencies that put the caller's right to a model into an endpoint's signature."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlmodel import Session

from ..auth.deps import CurrentPrincipal
from ..auth.needs import needs
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.deps import DbSession
from ..projects.service import authorize_owned
from .errors import ModelNotFound
from .models import ModelVersion, RegisteredModel
from .versions import get_version

__all__ = [
    "CheckExample",
    "ExampleCheck",
    "ModelReader",
    "ModelWriter",
    "VersionReader",
    "VersionWriter",
    "authorize_model",
]


def authorize_model(session: Session, principal: Principal, model_id: str, permission: Permission) -> RegisteredModel:
    """Return the model when the principal holds the permission in its project.

    Raises:
        ModelNotFound: If it does not exist, or belongs to a project of strangers.
        PermissionDenied: If this one right is missing.
    """
    missing = ModelNotFound(f"There is no model {model_id}.")
    return authorize_owned(session, principal, session.get(RegisteredModel, model_id), permission, missing=missing)


@needs(Permission.MODEL_READ)
def _reader(model_id: str, principal: CurrentPrincipal, session: DbSession) -> RegisteredModel:
    return authorize_model(session, principal, model_id, Permission.MODEL_READ)


@needs(Permission.MODEL_WRITE)
def _writer(model_id: str, principal: CurrentPrincipal, session: DbSession) -> RegisteredModel:
    return authorize_model(session, principal, model_id, Permission.MODEL_WRITE)


ModelReader = Annotated[RegisteredModel, Depends(_reader)]
ModelWriter = Annotated[RegisteredModel, Depends(_writer)]


def _version_reader(version: int, model: ModelReader, session: DbSession) -> ModelVersion:
    return get_version(session, model.id, version)


def _version_writer(version: int, model: ModelWriter, session: DbSession) -> ModelVersion:
    return get_version(session, model.id, version)


# Holds the rows of an example against a signature, and raises ValidationFailed. Rows are read by the data plane, which
# the registry does not know: whoever composes the application puts it there.
ExampleCheck = Callable[[dict[str, Any], list[Any]], None]


def _check_example(request: Request) -> ExampleCheck:
    check: ExampleCheck = request.app.state.check_example
    return check


CheckExample = Annotated[ExampleCheck, Depends(_check_example)]
VersionReader = Annotated[ModelVersion, Depends(_version_reader)]
VersionWriter = Annotated[ModelVersion, Depends(_version_writer)]
