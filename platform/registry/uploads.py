"""Files of versions on their way into the registry; no transaction is open while they are stored or read."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.errors import ValidationFailed
from ..kernel.resources import Resources
from ..projects.blobs import keep_file
from . import versions
from .deps import ExampleCheck, authorize_model
from .errors import BadExample, BadSafetensors, BadSignature, SignatureMissing, UnknownModelFile, VersionNotDraft
from .formats import ENDINGS, OPENED, check_signature, format_of, read_safetensors_signature
from .onnx_graph import read_signature
from .schemas import (
    MAX_EXAMPLE_BYTES,
    ArtifactRead,
    ArtifactType,
    Signature,
    VersionComplete,
    VersionCreate,
    VersionRead,
    VersionSource,
    VersionStatus,
)
from .service import describe_artifact

Held = TypeVar("Held")
_ROWS = TypeAdapter(list[Any])
_READERS: dict[str, Callable[[Path], Signature | None]] = {
    "onnx": read_signature,
    "safetensors": read_safetensors_signature,
}


def draft_of(resources: Resources, principal: Principal, model_id: str, number: int) -> tuple[str, str]:
    """Return project and id of a draft that the caller may fill.

    Raises:
        VersionNotDraft: If the version takes no more artifacts.
    """
    with resources.session() as session:
        model = authorize_model(session, principal, model_id, Permission.MODEL_WRITE)
        version = versions.get_version(session, model.id, number)
        if version.status != VersionStatus.DRAFT:
            raise VersionNotDraft(f"Version {number} is {version.status} and takes no more artifacts; make a new one.")
        return version.project_id, version.id


def store_artifact(
    resources: Resources, draft: tuple[str, str], upload: Path, *, path: str, type_: ArtifactType
) -> ArtifactRead:
    """Store an uploaded file as an artifact of a draft.

    Raises:
        BadArtifactPath: If the path is not a plain relative one.
        VersionNotDraft: If the version was closed meanwhile.
    """
    project_id, version_id = draft
    checked = versions.check_path(path)
    file = versions.ArtifactFile(checked, type_, keep_file(resources, project_id=project_id, path=upload))
    with resources.session() as session:
        return describe_artifact(versions.put_artifact(session, version_id=version_id, file=file))


def complete_version(
    resources: Resources, *, version_id: str, data: VersionComplete, check_example: ExampleCheck
) -> VersionRead:
    """Make a draft ready, with the signature that was given, checked against its ONNX artifact or read from it.

    Raises:
        BadOnnx: If the ONNX artifact cannot be served; the draft stays a draft, for another upload.
        BadSafetensors: If there is none and the safetensors artifact is damaged.
        BadSignature: If the given signature contradicts it.
        BadExample: If the given example does not fit the signature.
        VersionNotDraft: If the version has failed or has no artifacts.
    """
    with resources.session() as session:
        version = versions.get_version_by_id(session, version_id)
        artifacts = versions.list_artifacts(session, version_id)
        opened = versions.find_opened(artifacts) if version.status == VersionStatus.DRAFT else None
    signature = data.signature
    if signature is None and version.signature is not None:
        signature = Signature.model_validate(version.signature)
    own = _signature_in_store(resources, opened[1].uri, _READERS[opened[0]]) if opened else None
    if own is not None:
        signature = own if signature is None else check_signature(signature, own)
    if data.example is not None and version.status == VersionStatus.DRAFT:
        _hold_example(data.example, signature, check_example)
    with resources.session() as session:
        ready = versions.mark_ready(
            session,
            version_id=version_id,
            data=data,
            signature=signature,
            opened=opened[1].checksum if opened else None,
            is_weights=opened is not None and own is None,
        )
        return versions.describe_version(session, ready)


def given_beside(signature: str | None, example: str | None) -> VersionComplete:
    """Read what a client wrote as JSON beside a file.

    Raises:
        BadSignature: If the signature is none.
        BadExample: If the example is no list of rows.
    """
    try:
        described = Signature.model_validate_json(signature) if signature else None
    except ValidationError as error:
        raise BadSignature(f"The signature cannot be read: {_why(error)}") from error
    try:
        return VersionComplete(signature=described, example=_ROWS.validate_json(example) if example else None)
    except ValidationError as error:
        raise BadExample(f"The example cannot be read: {_why(error)}") from error


def _why(error: ValidationError) -> str:
    return error.errors(include_url=False)[0]["msg"]


def import_model(
    resources: Resources,
    principal: Principal,
    *,
    model_id: str,
    upload: Path,
    filename: str,
    given: VersionComplete,
    check_example: ExampleCheck,
) -> VersionRead:
    """Make a ready version from a file that was made elsewhere.

    Raises:
        UnknownModelFile: If the name is that of no known format.
        BadOnnx: If an ONNX file cannot be served.
        BadSafetensors: If a safetensors file cannot.
        BadSignature: If the given signature contradicts the file.
        BadExample: If the given example does not fit the signature.
        SignatureMissing: If the file does not tell its signature and none is given.
    """
    format_name = format_of(filename)
    if format_name is None:
        raise UnknownModelFile(
            f"{filename[:100]!r} is not named like a model file: send one that ends in {', '.join(ENDINGS.values())}."
        )
    signature = _signature_of(upload, format_name, given.signature)
    if given.example is not None:
        _hold_example(given.example, signature, check_example)
    with resources.session() as session:
        project_id = authorize_model(session, principal, model_id, Permission.MODEL_WRITE).project_id
    blob = keep_file(resources, project_id=project_id, path=upload)
    data = VersionCreate(source=VersionSource(kind="import", filename=filename))
    file = versions.ArtifactFile(f"model{ENDINGS[format_name]}", ArtifactType.MODEL, blob)
    opened = blob.sha256 if format_name in OPENED else None
    with resources.session() as session:
        model = authorize_model(session, principal, model_id, Permission.MODEL_WRITE)
        version = versions.create_version(session, model=model, data=data, created_by=principal.id)
        versions.put_artifact(session, version_id=version.id, file=file)
        ready = versions.mark_ready(session, version_id=version.id, data=given, signature=signature, opened=opened)
        return versions.describe_version(session, ready)


def _hold_example(rows: list[Any], signature: Signature | None, check: ExampleCheck) -> None:
    if signature is None:
        raise BadExample("Without a signature nothing says what an example must be; give both.")
    try:
        check(signature.model_dump(), rows)
    except ValidationFailed as error:
        raise BadExample(f"The example does not fit the signature: {error.message}", details=error.details) from error
    # Not before: the check refuses what is nested too deep to be written.
    if (size := len(json.dumps(rows))) > MAX_EXAMPLE_BYTES:
        raise BadExample(f"An example takes at most {MAX_EXAMPLE_BYTES} bytes as JSON, and this one takes {size}.")


def _signature_of(path: Path, format_name: str, given: Signature | None) -> Signature:
    if format_name in _READERS:
        own = _READERS[format_name](path)
        if own is None:
            raise BadSafetensors(
                "The file holds weights and no architecture; only what the platform's own trainers write can be served "
                "by itself. Export the model to ONNX."
            )
        return own if given is None else check_signature(given, own)
    if given is None:
        raise SignatureMissing(
            f"A file of the format {format_name!r} is a program and is not opened here: send its signature along."
        )
    return given


def _signature_in_store(resources: Resources, uri: str, read: Callable[[Path], Held]) -> Held:
    scratch = resources.settings.home / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        local = Path(folder) / "model"
        resources.store.fetch(uri, local)
        return read(local)
