"""What the library offers, and what importing it costs."""

import subprocess
import sys

import raymill.sdk
from raymill.kernel import errors as kernel
from raymill.sdk import errors

SURFACE = [
    "ApiKey",
    "Artifact",
    "AuditEntry",
    "AuthenticationFailed",
    "Client",
    "Conflict",
    "ConnectionLost",
    "Credentials",
    "Dataset",
    "DatasetVersion",
    "Deployment",
    "DeploymentFailed",
    "ExternalServiceError",
    "FeedbackRecord",
    "InferenceRecord",
    "InternalError",
    "Login",
    "Member",
    "Model",
    "ModelVersion",
    "NewApiKey",
    "NotFound",
    "PermissionDenied",
    "Prediction",
    "Project",
    "RateLimited",
    "RaymillError",
    "Retries",
    "Run",
    "Secret",
    "Team",
    "TrainingJob",
    "User",
    "ValidationFailed",
    "WaitTimeout",
]


def test_the_surface_is_this_and_no_more() -> None:
    assert raymill.sdk.__all__ == SURFACE
    assert all(hasattr(raymill.sdk, name) for name in SURFACE)


def test_importing_loads_no_part_of_the_server() -> None:
    program = (
        "import sys, raymill.sdk\n"
        "heavy = {'ray', 'fastapi', 'sqlalchemy', 'sqlmodel', 'numpy', 'pyarrow', 'torch', 'raymill.kernel'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_error_type_of_the_platform_has_its_class() -> None:
    for type_ in kernel.ErrorType:
        theirs = next(one for one in kernel.RaymillError.__subclasses__() if one.type is type_)
        ours = getattr(errors, theirs.__name__)
        assert ours.type == type_.value
