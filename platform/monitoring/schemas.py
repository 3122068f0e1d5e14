"""What clients ask and read about how a deployment does."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from ..kernel.bodies import Moment
from ..kernel.pagination import PageQuery
from ..serving.records.metrics import RevisionMetrics


class DeploymentMetrics(RevisionMetrics):
    """Requests, errors and latency since the deployment was made, in all and by revision number."""

    deployment_id: str
    by_revision: dict[str, RevisionMetrics]


class FeedbackQuery(PageQuery):
    """Which feedback is read."""

    since: Moment | None = Field(None, description="No earlier rows")
    until: Moment | None = Field(None, description="No later rows")
    request_id: Annotated[str, Field(max_length=128)] | None = None


class InferenceQuery(FeedbackQuery):
    """Which rows of the inference log are read."""

    revision: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    status: Annotated[int, Field(ge=100, lt=600)] | None = Field(None, description="HTTP status of the answer")


class InferenceRecord(BaseModel):
    """One request as the inference log has it; payloads only where the deployment keeps them, redacted as it says."""

    time: datetime
    request_id: str
    revision: int
    principal: str
    latency_ms: float
    status: int
    error: str | None
    inputs: str | None = Field(description="Body of the request")
    outputs: str | None = Field(description="Body of the answer")


class FeedbackRecord(BaseModel):
    """What a client said of one request; the request may be of any time, or of another endpoint."""

    time: datetime
    request_id: str
    principal: str
    label: bool | int | float | str | None
    value: int | float | None
