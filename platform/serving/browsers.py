"""Lets pages of other origins call the model server, where the settings name such origins."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from ..kernel.browsers import cross_origin
from ..kernel.settings import HttpSettings

__all__ = ["open_to_origins"]

_LENGTH = "Inference-Header-Content-Length"


def open_to_origins(app: ASGIApp, http: HttpSettings) -> ASGIApp:
    """Wrap a model server for the origins of the settings; without any it stays as it is."""
    if not http.cors_origins:
        return app
    # Any header may be the one by which an endpoint keeps a caller on one revision.
    options = cross_origin(http.cors_origins, readable=("X-Raymill-Revision", _LENGTH)) | {"allow_headers": ["*"]}
    return CORSMiddleware(app, **options)
