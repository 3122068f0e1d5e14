"""The servers that the platform is compared with, each in a process of its own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
from load import BenchmarkFailed

HERE = Path(__file__).parent
START_WITHIN_S = 60.0
# What a package needs beside itself to serve an ONNX file.
_BESIDE = {"mlflow": ["onnx"]}


def own_python(package: str) -> str:
    """Return the interpreter of a package's own environment, made with the latest of it from PyPI.

    Its onnxruntime and numpy are those of this environment, so that the same code computes. An environment that is
    there already is kept; to have a later version, remove it.
    """
    folder = HERE.parent / f".venv-bench-{package}"
    python, made = folder / "bin" / "python", folder / ".made"
    wanted = [package, *_BESIDE.get(package, []), *(f"{name}=={version(name)}" for name in ("onnxruntime", "numpy"))]
    if not made.exists() or made.read_text().split() != wanted:
        print(f"making {folder.name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, *wanted], check=True)
        made.write_text("\n".join(wanted))
    return str(python)


def installed_version(python: str, package: str) -> str:
    """Return the version of a package that will run."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def running_server(python: str, script: str, model: Path, port: int, log: Path) -> Iterator[psutil.Process]:
    """Run a server script until the block ends; it answers when the block begins."""
    folder = log.with_suffix("")
    folder.mkdir()
    with log.open("w") as output:
        child = subprocess.Popen([python, HERE / script, model, str(port)], stdout=output, stderr=output, cwd=folder)
    process = psutil.Process(child.pid)
    try:
        _await_port(child, port, log)
        yield process
    finally:
        family = [process, *process.children(recursive=True)]
        child.terminate()
        _, remaining = psutil.wait_procs(family, timeout=5)
        for one in remaining:
            one.kill()
        psutil.wait_procs(remaining, timeout=5)


def _await_port(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise BenchmarkFailed(f"The server on port {port} did not start: {log.read_text()[-1000:]}")
