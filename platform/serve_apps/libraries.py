"""What a replica of a dedicated app imports, so that a process can have done it before it is given a replica.

Ray calls one of these when a process starts (``worker_process_setup_hook``), and ends the process if it raises; what
is missing must be said where the model is loaded. The process has no part of the platform but these imports.
"""

import logging
from importlib import import_module

_REPLICA = ("ray.serve._private.replica", "raymill.serve_apps.dedicated")
_FORMATS = "raymill.serving.formats"

log = logging.getLogger(__name__)


def torch() -> None:
    """Import what the formats of torch need."""
    _import(*_REPLICA, f"{_FORMATS}.torchscript")


def tensorflow() -> None:
    """Import what the formats of TensorFlow need."""
    _import(*_REPLICA, f"{_FORMATS}.saved_model")


def skops() -> None:
    """Import what skops needs."""
    _import(*_REPLICA, f"{_FORMATS}.skops", "sklearn")


def onnxruntime() -> None:
    """Import what the formats of the pool need."""
    _import(*_REPLICA, f"{_FORMATS}.onnx")


def _import(*modules: str) -> None:
    for module in modules:
        try:
            import_module(module)
        except Exception as error:  # the constructor meets it again, and says so
            log.warning("%s was not imported ahead of time: %r", module, error)
