"""The two servers that the platform is compared with, each in a process of its own."""

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
LITSERVE_VENV = HERE.parent / ".venv-bench"
START_WITHIN_S = 60.0


def litserve_python() -> str:
    """Return the interpreter of LitServe's own environment, made when it is not there.

    Its onnxruntime and numpy are those of this environment, so that the same code computes.
    """
    python = LITSERVE_VENV / "bin" / "python"
    if not python.exists():
        print(f"making {LITSERVE_VENV.name} with LitServe", flush=True)
        subprocess.run([sys.executable, "-m", "venv", LITSERVE_VENV], check=True)
    same = [f"{name}=={version(name)}" for name in ("onnxruntime", "numpy")]
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "litserve", *same], check=True)
    return str(python)


def litserve_version(python: str) -> str:
    """Return the version of LitServe that will run."""
    code = "from importlib.metadata import version; print(version('litserve'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def running_server(python: str, script: str, model: Path, port: int, log: Path) -> Iterator[psutil.Process]:
    """Run a server script until the block ends; it answers when the block begins."""
    with log.open("w") as output:
        child = subprocess.Popen(
            [python, HERE / script, model, str(port)], stdout=output, stderr=output, cwd=log.parent
        )
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
