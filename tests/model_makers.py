"""Makers of registered models for tests that need one to deploy."""

from pathlib import Path

from factories import Tenant
from raymill.kernel.resources import Resources
from raymill.registry import service as models
from raymill.registry import versions
from raymill.registry.schemas import ArtifactType, Framework, Signature, VersionComplete, VersionCreate

SIGNATURE = Signature.model_validate(
    {
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
        "labels": list(range(10)),
    }
)


def add_version(resources: Resources, tenant: Tenant, folder: Path, *, content: bytes) -> int:
    """Register a ready version of the model ``digits``; deploying never opens the file."""
    file = folder / "model.onnx"
    file.write_bytes(content)
    blob = resources.store.put_file(tenant.project_id, file)
    with resources.session() as session:
        model = models.ensure_model(
            session,
            project_id=tenant.project_id,
            name="digits",
            framework=Framework.PYTORCH,
            created_by=tenant.user_id,
        )
        version = versions.create_version(session, model=model, data=VersionCreate(), created_by=tenant.user_id)
        artifact = versions.ArtifactFile(path="model.onnx", type=ArtifactType.MODEL, blob=blob)
        versions.put_artifact(session, version_id=version.id, file=artifact)
        versions.mark_ready(
            session, version_id=version.id, data=VersionComplete(), signature=SIGNATURE, opened=blob.sha256
        )
        return version.version
