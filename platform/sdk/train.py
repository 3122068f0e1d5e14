"""Record what a Python program does as a run of its project.

Works in every process that has ``RAYMILL_API_URL`` and ``RAYMILL_API_KEY`` in its environment: in a job that the
platform started, in one that an operator submitted to Ray with a key of the project, and on a laptop.

Example:
    >>> from raymill.sdk import train
    >>> with train.run("baseline", params={"lr": 0.01}) as run:  # doctest: +SKIP
    ...     for loss in (0.3, 0.2, 0.1):
    ...         run.log({"loss": loss})
"""

import json
import math
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .client import Client
from .errors import AuthenticationFailed, ExternalServiceError, RaymillError
from .transport import Retries

__all__ = ["ActiveRun", "connect", "run"]

_STOPPED = frozenset({signal.SIGTERM.value, 128 + signal.SIGTERM.value})


class ActiveRun:
    """A run that goes on; made by ``run``."""

    def __init__(self, client: Client, *, run_id: str, name: str, project_id: str) -> None:
        self.id = run_id
        self.name = name
        self.project_id = project_id
        self._client = client
        self._next_step = 0

    def log(self, metrics: Mapping[str, Any], *, step: int | None = None) -> None:
        """Add values of one step.

        NaN and infinite values, and values that the platform cannot take because it does not answer for a while, are
        left out with a warning: the program goes on.

        Args:
            metrics: Numbers by name; also scalars of numpy and torch.
            step: Which step; the one after the last unless given, counted from 0.

        Raises:
            RaymillError: If the platform refuses.
        """
        step = self._next_step if step is None else step
        self._next_step = step + 1
        values = {name: float(value) for name, value in metrics.items()}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if len(finite) < len(values):
            left_out = ", ".join(sorted(values.keys() - finite.keys()))
            warnings.warn(f"Not logged at step {step}, for it is not finite: {left_out}.", stacklevel=2)
        if finite:
            self._send(finite, step)

    def _send(self, metrics: Mapping[str, float], step: int) -> None:
        try:
            self._client.runs.log_metrics(self.id, metrics, step=step)
        except ExternalServiceError as error:
            warnings.warn(f"Step {step} was not logged: {error}", stacklevel=3)


@contextmanager
def run(
    name: str | None = None,
    *,
    experiment: str = "default",
    params: Mapping[str, Any] | None = None,
    project_id: str | None = None,
    client: Client | None = None,
) -> Iterator[ActiveRun]:
    """Start a run that ends with the block: completed, failed on an exception, cancelled on Ctrl-C and SIGTERM.

    With several workers call it in one process, the driver or the worker of rank 0: each call makes a run.

    Args:
        name: Name of the run; its id unless given.
        experiment: Name of the experiment; made when missing.
        params: What the run is started with; what JSON does not know is stored as text.
        project_id: The project; that of the API key unless given.
        client: Used instead of the one that the environment describes; it stays open.

    Raises:
        AuthenticationFailed: If the environment names no platform or no key.
        RaymillError: If the platform refuses or does not answer.
    """
    used = client or connect()
    try:
        started = used.runs.create(experiment=experiment, name=name, parameters=_plain(params), project_id=project_id)
        with _ended_with(used, started.id):
            yield ActiveRun(used, run_id=started.id, name=started.name, project_id=started.project_id)
    finally:
        if client is None:
            used.close()


def connect(*, retries: Retries | None = None) -> Client:
    """Return a client of the platform that the environment describes.

    Args:
        retries: How often a call is tried; as every client does unless given.

    Raises:
        AuthenticationFailed: If a variable is missing; the message names it.
    """
    url, key = os.environ.get("RAYMILL_API_URL"), os.environ.get("RAYMILL_API_KEY")
    if not url or not key:
        missing = "RAYMILL_API_KEY" if url else "RAYMILL_API_URL"
        raise AuthenticationFailed(
            f"{missing} is not set: put the platform's URL into RAYMILL_API_URL and an API key of the project with "
            "the permission 'run:write' into RAYMILL_API_KEY."
        )
    request_id = os.environ.get("RAYMILL_REQUEST_ID") or None
    return Client(url, api_key=key, request_id=request_id, retries=retries or Retries())


@contextmanager
def _ended_with(client: Client, run_id: str) -> Iterator[None]:
    """End the run as the block ends."""
    try:
        with _sigterm_raises():
            yield
    except BaseException as error:
        _finish(client, run_id, _end_of(error))
        raise
    _finish(client, run_id, "completed")


def _finish(client: Client, run_id: str, status: str) -> None:
    try:
        client.runs.finish(run_id, status)
    except RaymillError as problem:
        warnings.warn(f"The end of run {run_id}, {status}, was not recorded: {problem}", stacklevel=4)


def _end_of(error: BaseException) -> str:
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "completed"
    stopped = isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code in _STOPPED)
    return "cancelled" if stopped else "failed"


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM, by which Ray ends a job, unwind the stack where nobody else has decided what it does."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _exit:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _plain(params: Mapping[str, Any] | None) -> dict[str, Any]:
    # NaN and infinities are written as if JSON had them, and read back as text.
    document: dict[str, Any] = json.loads(json.dumps(dict(params or {}), default=_as_json), parse_constant=str)
    return document


def _as_json(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
