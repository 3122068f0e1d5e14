"""Registered models, their versions and artifacts."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from .documents import Document
from .errors import Conflict, NotFound, RaymillError
from .transport import Transport

_PATH = "/api/v1/models"
# A proxy takes 15 kB of URL and headers, and a login is one of these.
_LONGEST_QUERY = 6_000
# As the platform takes it beside a file.
_LONGEST_EXAMPLE = 2_000


class Model(Document):
    """A registered model; ``version`` is its newest ready one, ``aliases`` name versions by number."""

    id: str
    project_id: str
    name: str
    description: str
    framework: str
    version: int | None
    aliases: dict[str, int] = {}
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
    example: list[Any] | None = None
    metrics: dict[str, float]
    aliases: list[str] = []
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
        example: Sequence[Any] | None = None,
    ) -> ModelVersion:
        """Make a draft ready; nothing in it changes any more.

        Args:
            model_id: The model.
            version: Number of the draft.
            signature: Inputs and outputs, where the files do not tell them.
            metrics: What was measured.
            example: Rows as ``predict`` takes them, for warm-ups and documentation; whoever may call a deployment of
                the version may read them.
        """
        given = {"signature": signature, "metrics": metrics, "example": example}
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
        example: Sequence[Any] | None = None,
    ) -> ModelVersion:
        """Register a version directly from a model file, whose format its name tells.

        ONNX files tell their signature, and safetensors files of the platform's trainers; for TorchScript and other
        programs it must be given. An example is as in ``complete_version``.
        """
        name = filename or (content.name if isinstance(content, Path) else "model.onnx")
        beside = {"signature": signature, "example": example}
        params = {"filename": name} | {key: json.dumps(value) for key, value in beside.items() if value}
        if len(urlencode(params)) > _LONGEST_QUERY or len(params.get("example", "")) > _LONGEST_EXAMPLE:
            return self._import_by_draft(model_id, content, name, signature=signature, example=example)
        answer = self._transport.document("POST", f"{_PATH}/{model_id}/versions/import", params=params, content=content)
        return ModelVersion.model_validate(answer)

    def _import_by_draft(
        self,
        model_id: str,
        content: Path | bytes,
        filename: str,
        *,
        signature: dict[str, Any] | None,
        example: Sequence[Any] | None,
    ) -> ModelVersion:
        """Register a version in three steps, the last of which takes in its body what is too long for a URL."""
        version = self.create_version(model_id, source={"kind": "import", "filename": filename}).version
        try:
            self.put_artifact(model_id, version, Path(filename).name, content)
            return self.complete_version(model_id, version, signature=signature, example=example)
        except RaymillError as error:
            self.fail_version(model_id, version, error=error.message)
            raise

    def import_onnx(self, model_id: str, content: Path | bytes, *, filename: str | None = None) -> ModelVersion:
        """Register a version directly from an ONNX file; its signature is read from the graph."""
        return self.import_file(model_id, content, filename=filename)

    def delete_version(self, model_id: str, version: int) -> None:
        """Remove a version that nothing serves."""
        self._transport.request("DELETE", _version(model_id, version))

    def set_alias(self, model_id: str, alias: str, version: int) -> ModelVersion:
        """Let an alias name a version; deployments that follow it make a revision of that version."""
        answer = self._transport.document("PUT", _alias(model_id, alias), json={"version": version})
        return ModelVersion.model_validate(answer)

    def get_version_by_alias(self, model_id: str, alias: str) -> ModelVersion:
        """Return the version that an alias names."""
        return ModelVersion.model_validate(self._transport.document("GET", _alias(model_id, alias)))

    def delete_alias(self, model_id: str, alias: str) -> None:
        """Take an alias away; what serves the version goes on."""
        self._transport.request("DELETE", _alias(model_id, alias))

    def _find(self, name: str, project_id: str) -> Model | None:
        return next((model for model in self.list(project_id=project_id, name=name) if model.name == name), None)


def _version(model_id: str, version: int) -> str:
    return f"{_PATH}/{model_id}/versions/{version}"


def _alias(model_id: str, alias: str) -> str:
    return f"{_PATH}/{model_id}/aliases/{quote(alias, safe='')}"
