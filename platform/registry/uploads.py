"""Files of versions on their way into the registry; no transaction is open while they are stored or read."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pydantic import ValidationError

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.resources import Resources
from ..projects.blobs import keep_file
from . import versions
from .deps import authorize_model
from .errors import BadSafetensors, BadSignature, SignatureMissing, UnknownModelFile, VersionNotDraft
from .formats import ENDINGS, find_model, format_of, read_safetensors_signature
from .onnx_graph import check_signature, read_signature
from .schemas import (
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


def complete_version(resources: Resources, *, version_id: str, data: VersionComplete) -> VersionRead:
    """Make a draft ready, with the signature that was given, checked against its ONNX artifact or read from it.

    Raises:
        BadOnnx: If the ONNX artifact cannot be served; the draft stays a draft, for another upload.
        BadSafetensors: If there is none and the safetensors artifact is damaged.
        BadSignature: If the given signature contradicts it.
        VersionNotDraft: If the version has failed or has no artifacts.
    """
    with resources.session() as session:
        version = versions.get_version_by_id(session, version_id)
        artifacts = versions.list_artifacts(session, version_id)
        onnx, described = versions.find_onnx(artifacts), find_model(artifacts, {"safetensors"})
    signature = data.signature
    if signature is None and version.signature is not None:
        signature = Signature.model_validate(version.signature)
    if onnx is not None and version.status == VersionStatus.DRAFT:
        graph = _signature_in_store(resources, onnx.uri, read_signature)
        signature = graph if signature is None else check_signature(signature, graph)
    elif described is not None and version.status == VersionStatus.DRAFT:
        own = _signature_in_store(resources, described[1].uri, read_safetensors_signature)
        if own is not None:
            signature = own if signature is None else check_signature(signature, own)
    with resources.session() as session:
        ready = versions.mark_ready(
            session,
            version_id=version_id,
            data=data,
            signature=signature,
            onnx=onnx.checksum if onnx else None,
        )
        return versions.describe_version(session, ready)


def given_signature(text: str | None) -> Signature | None:
    """Read a signature that a client wrote as JSON.

    Raises:
        BadSignature: If it is none.
    """
    try:
        return Signature.model_validate_json(text) if text else None
    except ValidationError as error:
        raise BadSignature(f"The signature cannot be read: {error.errors(include_url=False)[0]['msg']}") from error


def import_model(
    resources: Resources,
    principal: Principal,
    *,
    model_id: str,
    upload: Path,
    filename: str,
    signature: Signature | None,
) -> VersionRead:
    """Make a ready version from a file that was made elsewhere.

    Raises:
        UnknownModelFile: If the name is that of no known format.
        BadOnnx: If an ONNX file cannot be served.
        BadSafetensors: If a safetensors file cannot.
        BadSignature: If the given signature contradicts the file.
        SignatureMissing: If the file does not tell its signature and none is given.
    """
    format_name = format_of(filename)
    if format_name is None:
        raise UnknownModelFile(
            f"{filename[:100]!r} is not named like a model file: send one that ends in {', '.join(ENDINGS.values())}."
        )
    signature = _signature_of(upload, format_name, signature)
    with resources.session() as session:
        project_id = authorize_model(session, principal, model_id, Permission.MODEL_WRITE).project_id
    blob = keep_file(resources, project_id=project_id, path=upload)
    data = VersionCreate(source=VersionSource(kind="import", filename=filename))
    file = versions.ArtifactFile(f"model{ENDINGS[format_name]}", ArtifactType.MODEL, blob)
    onnx = blob.sha256 if format_name == "onnx" else None
    with resources.session() as session:
        model = authorize_model(session, principal, model_id, Permission.MODEL_WRITE)
        version = versions.create_version(session, model=model, data=data, created_by=principal.id)
        versions.put_artifact(session, version_id=version.id, file=file)
        done = VersionComplete()
        ready = versions.mark_ready(session, version_id=version.id, data=done, signature=signature, onnx=onnx)
        return versions.describe_version(session, ready)


def _signature_of(path: Path, format_name: str, given: Signature | None) -> Signature:
    if format_name == "onnx":
        graph = read_signature(path)
        return graph if given is None else check_signature(given, graph)
    if format_name == "safetensors":
        described = read_safetensors_signature(path)
        if described is None:
            raise BadSafetensors(
                "The file holds weights and no architecture; only what the platform's own trainers write can be served "
                "by itself. Export the model to ONNX."
            )
        return described if given is None else check_signature(given, described)
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
