"""The short way from the edge to the app of the same process, past what Ray Serve does with each request.

Serve's own handling costs a tiny model's request as much as all the rest: tasks to watch for the client, a context,
counters, a record for an access log that is off. An app that does all it needs of that by itself opens the lane.
Requests in it are drained at shutdown as all others are, by uvicorn; Serve's request metrics do not count them.
"""

from ray import serve
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.constants import RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD
from starlette.types import ASGIApp, Receive, Scope, Send

_METHOD, _PATHS = "POST", "/v2/models/"


class Lane:
    """Takes the inference requests of one process; those beyond its width go through Serve, where they wait."""

    __slots__ = ("_app", "_ongoing", "_width")

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self._ongoing = 0
        self._width = 0

    def open(self, app: ASGIApp) -> None:
        """Let an app of this process's event loop answer, as soon as the lane has a width.

        The app must notice by itself when a client leaves, and refuse a body that is too large.
        """
        self._app = app

    def follow(self, config: DeploymentConfig) -> None:
        """Take as many requests at a time as Serve is told to, and none where it scales by those that it counts."""
        self._width = config.max_ongoing_requests if self._app and not config.autoscaling_config else 0

    def takes(self, scope: Scope) -> bool:
        """Tell whether this request may go in now."""
        return (
            self._ongoing < self._width
            and scope["type"] == "http"
            and scope["method"] == _METHOD
            and scope["path"].startswith(_PATHS)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that it takes."""
        assert self._app is not None  # noqa: S101
        self._ongoing += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._ongoing -= 1


#: The lane of this process.
LANE = Lane()


def open_lane(app: ASGIApp) -> None:
    """Open the lane of this replica, unless Serve runs the app on another event loop than the edge."""
    if not RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD:
        LANE.open(app)
        follow_serve()


def follow_serve() -> None:
    """Let the lane of this replica follow Serve's config, which may have changed since."""
    # Serve replaces the context when it reconfigures a replica, and tells the app of that only in some cases.
    LANE.follow(serve.get_replica_context()._deployment_config)


__all__ = ["LANE", "Lane", "follow_serve", "open_lane"]
