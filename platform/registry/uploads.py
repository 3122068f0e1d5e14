"""Files of versions on their way into the registry; no transaction is open while they are stored or read."""

from pathlib import Path
from tempfile import TemporaryDirectory

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.resources import Resources
from ..projects.blobs import keep_file
from . import versions
from .deps import authorize_model
from .errors import NotAnOnnxFile, VersionNotDraft
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
        BadSignature: If the given signature contradicts it.
        VersionNotDraft: If the version has failed or has no artifacts.
    """
    with resources.session() as session:
        version = versions.get_version_by_id(session, version_id)
        onnx = versions.find_onnx(versions.list_artifacts(session, version_id))
    signature = data.signature
    if signature is None and version.signature is not None:
        signature = Signature.model_validate(version.signature)
    if onnx is not None and version.status == VersionStatus.DRAFT:
        graph = _signature_in_store(resources, onnx.uri)
        signature = graph if signature is None else check_signature(signature, graph)
    with resources.session() as session:
        ready = versions.mark_ready(
            session,
            version_id=version_id,
            data=data,
            signature=signature,
            onnx=onnx.checksum if onnx else None,
        )
        return versions.describe_version(session, ready)


def import_onnx(
    resources: Resources, principal: Principal, *, model_id: str, upload: Path, filename: str
) -> VersionRead:
    """Make a ready version from a user's own ONNX file.

    Raises:
        NotAnOnnxFile: If the name does not end in .onnx.
        BadOnnx: If the file cannot be served.
    """
    if Path(filename).suffix.lower() != ".onnx":
        raise NotAnOnnxFile(f"{filename[:100]!r} is not named like an ONNX file: send a .onnx file.")
    signature = read_signature(upload)
    with resources.session() as session:
        project_id = authorize_model(session, principal, model_id, Permission.MODEL_WRITE).project_id
    blob = keep_file(resources, project_id=project_id, path=upload)
    data = VersionCreate(source=VersionSource(kind="import", filename=filename))
    with resources.session() as session:
        model = authorize_model(session, principal, model_id, Permission.MODEL_WRITE)
        version = versions.create_version(session, model=model, data=data, created_by=principal.id)
        file = versions.ArtifactFile("model.onnx", ArtifactType.MODEL, blob)
        versions.put_artifact(session, version_id=version.id, file=file)
        ready = versions.mark_ready(
            session, version_id=version.id, data=VersionComplete(), signature=signature, onnx=blob.sha256
        )
        return versions.describe_version(session, ready)


def _signature_in_store(resources: Resources, uri: str) -> Signature:
    scratch = resources.settings.home / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        local = Path(folder) / "model.onnx"
        resources.store.fetch(uri, local)
        return read_signature(local)
