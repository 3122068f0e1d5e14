"""What can go wrong with models and their versions."""

from ..kernel.errors import Conflict, NotFound, UnsupportedMedia, ValidationFailed


class ModelNotFound(NotFound):
    """Raised when the model does not exist, or not for this principal."""


class VersionNotFound(NotFound):
    """Raised when the model has no such version."""


class ArtifactNotFound(NotFound):
    """Raised when the version has no such artifact."""


class AliasNotFound(NotFound):
    """Raised when the model has no such alias."""

    def __init__(self, model_id: str, alias: str) -> None:
        super().__init__(
            f"The model {model_id} has no alias {alias!r}.", details={"model_id": model_id, "alias": alias}
        )


class ModelNameTaken(Conflict):
    """Raised when another model of the project has the name."""


class VersionNotDraft(Conflict):
    """Raised when a version that takes no more changes is changed."""


class VersionNotReady(Conflict):
    """Raised when a version that is not ready is to have an alias."""


class VersionPinned(Conflict):
    """Raised when a version that something serves or needs is deleted; names the owners."""


class ModelInUse(Conflict):
    """Raised when something that is kept refers to the model or version."""


class VersionNotServable(Conflict):
    """Raised when a version is not ready, or has no artifact that the tier may load."""


class BadArtifactPath(ValidationFailed):
    """Raised when an artifact's path is not a plain relative one."""


class BadAlias(ValidationFailed):
    """Raised when an alias is not of the letters that it may have, or is kept for versions themselves."""


class BadOnnx(ValidationFailed):
    """Raised when a file is not an ONNX graph that can be served."""


class BadSignature(ValidationFailed):
    """Raised when the given signature contradicts the ONNX graph, or is missing and cannot be read."""


class BadExample(ValidationFailed):
    """Raised when the given example does not fit the signature, or there is none to hold it against."""


class BadSafetensors(ValidationFailed):
    """Raised when a file is not safetensors, or names no architecture that could be served."""


class SignatureMissing(ValidationFailed):
    """Raised when a file does not tell its inputs and outputs, and nobody else has."""


class UnknownModelFile(UnsupportedMedia):
    """Raised when the name of an imported file is that of no known format."""
