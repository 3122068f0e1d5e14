"""Registered models, their versions and artifacts."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from .documents import Document
from .errors import Conflict, NotFound
from .transport import Transport

_PATH = "/api/v1/models"


class Model(Document):
    """A registered model; ``version`` is its newest ready one."""

    id: str
    project_id: str
    name: str
    description: str
    framework: str
    version: int | None
    created_at: datetime


class Artifact(Document):
    """A file of a version; the checksum is its SHA-256."""

    id: str
    type: str
    path: str
    size: int
    checksum: str


class ModelVersion(Document):
    """One version of a model."""

    id: str
    model_id: str
    version: int
    status: str
    framework: str
    signature: dict[str, Any] | None
    metrics: dict[str, float]
    artifacts: list[Artifact]
    lineage: Any
    source: dict[str, Any] | None


class Models:
    """Calls below ``/models``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, *, project_id: str, name: str, description: str = "", framework: str | None = None) -> Model:
        """Make a model without versions."""
        body = {"project_id": project_id, "name": name, "description": description}
        if framework is not None:
            body["framework"] = framework
        return Model.model_validate(self._transport.document("POST", _PATH, json=body, once=str(uuid4())))

    def get(self, model_id: str) -> Model:
        """Return a model by its id."""
        return Model.model_validate(self._transport.document("GET", f"{_PATH}/{model_id}"))

    def from_name(
        self, name: str, *, project_id: str, create_if_missing: bool = False, framework: str | None = None
    ) -> Model:
        """Return a project's model by its name; two callers that make it at once get the same.

        Raises:
            NotFound: If there is none and none is to be made.
        """
        found = self._find(name, project_id)
        if found is not None:
            return found
        if not create_if_missing:
            raise NotFound(f"There is no model named {name!r} in project {project_id}.", status=404)
        try:
            return self.create(project_id=project_id, name=name, framework=framework)
        except Conflict:
            if (made := self._find(name, project_id)) is not None:
                return made
            raise

    def list(self, *, project_id: str | None = None, name: str | None = None) -> Iterator[Model]:
        """Walk through the models that the caller may read, newest first."""
        items = self._transport.items(_PATH, {"project_id": project_id, "name": name})
        return (Model.model_validate(item) for item in items)

    def update(self, model_id: str, **fields: Any) -> Model:
        """Change ``description``, ``framework`` or ``metadata``."""
        return Model.model_validate(self._transport.document("PATCH", f"{_PATH}/{model_id}", json=fields))

    def delete(self, model_id: str) -> None:
        """Remove a model that nothing serves."""
        self._transport.request("DELETE", f"{_PATH}/{model_id}")

    def versions(self, model_id: str) -> Iterator[ModelVersion]:
        """Walk through the versions of a model, newest first."""
        items = self._transport.items(f"{_PATH}/{model_id}/versions")
        return (ModelVersion.model_validate(item) for item in items)

    def get_version(self, model_id: str, version: int) -> ModelVersion:
        """Return one version."""
        return ModelVersion.model_validate(self._transport.document("GET", _version(model_id, version)))

    def create_version(
        self,
        model_id: str,
        *,
        framework: str | None = None,
        signature: dict[str, Any] | None = None,
        metrics: dict[str, float] | None = None,
        source: dict[str, Any] | None = None,
    ) -> ModelVersion:
        """Make a draft version, which takes artifacts until it is completed."""
        given = {"framework": framework, "signature": signature, "metrics": metrics, "source": source}
        body = {key: value for key, value in given.items() if value is not None}
        answer = self._transport.document("POST", f"{_PATH}/{model_id}/versions", json=body, once=str(uuid4()))
        return ModelVersion.model_validate(answer)

    def put_artifact(
        self, model_id: str, version: int, path: str, content: Path | bytes, *, type: str = "model"
    ) -> dict[str, Any]:
        """Stream a file into a draft version under ``path``."""
        artifact: dict[str, Any] = self._transport.document(
            "PUT", f"{_version(model_id, version)}/artifacts/{quote(path)}", params={"type": type}, content=content
        )
        return artifact

    def download_artifact(self, model_id: str, version: int, path: str, target: Path) -> None:
        """Stream a file of a version to ``target``."""
        self._transport.download(f"{_version(model_id, version)}/artifacts/{quote(path)}", target)

    def complete_version(
        self,
        model_id: str,
        version: int,
        *,
        signature: dict[str, Any] | None = None,
        metrics: dict[str, float] | None = None,
    ) -> ModelVersion:
        """Make a draft ready; nothing in it changes any more."""
        given = {"signature": signature, "metrics": metrics}
        body = {key: value for key, value in given.items() if value is not None}
        answer = self._transport.document("POST", f"{_version(model_id, version)}/complete", json=body, repeatable=True)
        return ModelVersion.model_validate(answer)

    def fail_version(self, model_id: str, version: int, *, error: str) -> ModelVersion:
        """Give up a draft, saying why."""
        answer = self._transport.document(
            "POST", f"{_version(model_id, version)}/fail", json={"error": error}, repeatable=True
        )
        return ModelVersion.model_validate(answer)

    def import_file(
        self,
        model_id: str,
        content: Path | bytes,
        *,
        filename: str | None = None,
        signature: dict[str, Any] | None = None,
    ) -> ModelVersion:
        """Register a version directly from a model file, whose format its name tells.

        ONNX files tell their signature, and safetensors files of the platform's trainers; for TorchScript and other
        programs it must be given.
        """
        name = filename or (content.name if isinstance(content, Path) else "model.onnx")
        params = {"filename": name} | ({"signature": json.dumps(signature)} if signature else {})
        answer = self._transport.document("POST", f"{_PATH}/{model_id}/versions/import", params=params, content=content)
        return ModelVersion.model_validate(answer)

    def import_onnx(self, model_id: str, content: Path | bytes, *, filename: str | None = None) -> ModelVersion:
        """Register a version directly from an ONNX file; its signature is read from the graph."""
        return self.import_file(model_id, content, filename=filename)

    def delete_version(self, model_id: str, version: int) -> None:
        """Remove a version that nothing serves."""
        self._transport.request("DELETE", _version(model_id, version))

    def _find(self, name: str, project_id: str) -> Model | None:
        return next((model for model in self.list(project_id=project_id, name=name) if model.name == name), None)


def _version(model_id: str, version: int) -> str:
    return f"{_PATH}/{model_id}/versions/{version}"
