"""How much a request may carry, by its route."""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from ..kernel.settings import Settings

#: Routes whose body is a file that the app reads as it arrives.
UPLOADS = re.compile(
    r"/api/v1/(?:datasets/[^/]+/versions|models/[^/]+/versions/import|models/[^/]+/versions/[^/]+/artifacts/.+"
    r"|jobs/api/packages/gcs/[^/]+|training-jobs/[^/]+/checkpoint)"
)
INFERENCE = ("/v2/", "/v1/")


@dataclass(frozen=True)
class BodyLimits:
    """Bytes of the largest body: of an inference request, of an uploaded file, of anything else."""

    inference: int
    upload: int
    other: int

    @classmethod
    def of(cls, settings: Settings) -> "BodyLimits":
        """Read the limits from the settings."""
        return cls(
            inference=settings.serving.max_body_bytes,
            upload=settings.http.max_upload_bytes,
            other=settings.http.max_body_bytes,
        )

    def of_request(self, scope: MutableMapping[str, Any]) -> tuple[int, bool]:
        """Return the limit of the request's route in bytes, and whether the route is an upload."""
        path = scope["path"]
        if path.startswith(INFERENCE):
            return self.inference, False
        if path.startswith("/api/") and scope.get("method") in ("PUT", "POST") and UPLOADS.fullmatch(path):
            return self.upload, True
        return self.other, False
