"""The client library of raymill: httpx and pydantic, nothing of the server."""

from .api_keys import ApiKey, NewApiKey
from .audit import AuditEntry
from .auth import Login, User
from .client import Client
from .credentials import Credentials
from .datasets import Dataset, DatasetVersion
from .deployments import Deployment
from .errors import (
    AuthenticationFailed,
    Conflict,
    ConnectionLost,
    DeploymentFailed,
    ExternalServiceError,
    InternalError,
    NotFound,
    PermissionDenied,
    RateLimited,
    RaymillError,
    ValidationFailed,
    WaitTimeout,
)
from .inference_log import FeedbackRecord, InferenceRecord
from .models import Artifact, Model, ModelVersion
from .predict import Prediction
from .projects import Member, Project
from .runs import Run
from .secrets import Secret
from .teams import Team
from .training_jobs import TrainingJob
from .transport import Retries

__all__ = [
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
