"""Structured logs as JSON lines, each with the request id it follows from."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import structlog

from .ids import new_id
from .settings import LogSettings

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def take_request_id(given: str | None) -> str:
    """Return the client's request id when it is harmless, else a new one."""
    return given if given and _ACCEPTABLE.fullmatch(given) else new_id("req")


def current_request_id() -> str:
    """Return the request id of this context, or an empty string outside a request."""
    return _request_id.get()


@contextmanager
def request_context(request_id: str) -> Iterator[None]:
    """Put the request id on every log line and error that is made inside the block."""
    token = _request_id.set(request_id)
    try:
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            yield
    finally:
        _request_id.reset(token)


def configure_logging(settings: LogSettings) -> None:
    """Write structlog events and the standard library's records as JSON lines to stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processor=structlog.processors.JSONRenderer(sort_keys=True)
        )
    )
    root = logging.getLogger("raymill")
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    root.propagate = False
