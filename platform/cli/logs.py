"""`raymill logs`: the log files of the parts and of the applications."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, TextIO

import typer

from ..compute.cluster import Cluster, ClusterUnreachable
from ..compute.embedded.ray_head import EmbeddedRay
from ..kernel.errors import NotFound
from ..kernel.settings import Settings

POLL_S = 0.3
PARTS = ("postgres", "valkey", "ray")

Part = Annotated[str | None, typer.Argument(help="postgres, valkey, ray or the name of an application; unset: all.")]
Lines = Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines of each file to begin with.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Keep printing what is added, until interrupted.")]


class NoLogs(NotFound):
    """Raised when nothing with that name has written a log."""


def logs(part: Part = None, lines: Lines = 50, follow: Follow = False) -> None:
    """Print the logs of a part or of an application."""
    settings = Settings()
    files = _files(settings, part)
    if not files:
        raise NoLogs(f"No log of '{part}' on this machine." if part else "No logs yet: run 'raymill up' first.")
    with ExitStack() as opened:
        handles = [opened.enter_context(path.open(errors="replace")) for path in files]
        for path, handle in zip(files, handles, strict=True):
            _print(path, _last_lines(handle, lines), several=len(files) > 1)
        while follow:
            for path, handle in zip(files, handles, strict=True):
                _print(path, handle.readlines(), several=len(files) > 1)
            time.sleep(POLL_S)


def _files(settings: Settings, part: str | None) -> list[Path]:
    if part is None:
        return [path for name in PARTS for path in _files(settings, name)]
    if part in PARTS:
        path = settings.home / "logs" / f"{part}.log"
        return [path] if path.exists() else []
    folder = EmbeddedRay(settings).session_logs
    return sorted({*folder.glob(f"serve/replica_{part}_*.log"), *_worker_files(settings, folder, part)})


def _worker_files(settings: Settings, folder: Path, app: str) -> Iterator[Path]:
    """What the application's processes wrote to their standard output and error."""
    try:
        with Cluster.connect(settings, timeout_s=5.0) as cluster:
            replicas = [one for entry in cluster.serve_apps() if entry.name == app for one in entry.replicas]
    except ClusterUnreachable:
        return
    for replica in replicas:
        yield from folder.glob(f"worker-*-{replica.pid}.out")
        yield from folder.glob(f"worker-*-{replica.pid}.err")


def _last_lines(handle: TextIO, count: int) -> list[str]:
    found = handle.readlines()
    return found[-count:] if count else []


def _print(path: Path, lines: list[str], *, several: bool) -> None:
    for line in lines:
        typer.echo(f"{path.name}: {line.rstrip()}" if several else line.rstrip())
