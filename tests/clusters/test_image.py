"""The Dockerfile, as far as it can be judged without a Docker engine."""

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """Return keyword and rest of each instruction, with its lines joined."""
    lines = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M).replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word.isupper()]


def copied() -> list[str]:
    """Return the sources of every COPY."""
    return [source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]]


def is_ignored(name: str) -> bool:
    """Say whether .dockerignore leaves a file or folder of the top level out."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!")
        if fnmatch.fnmatch(name, pattern):
            ignored = not line.startswith("!")
    return ignored


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_is_there_and_not_ignored(source: str) -> None:
    assert (ROOT / source).exists()
    assert not is_ignored(source)


@pytest.mark.parametrize("name", [".git", ".venv", "tests", "docs", "clusters", ".coverage"])
def test_what_the_image_does_not_need_stays_outside(name: str) -> None:
    assert is_ignored(name)


def test_the_image_runs_as_an_ordinary_user() -> None:
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users == ["1000:1000"]
    words = [word for word, _ in instructions()]
    assert "RUN" not in words[words.index("USER") :]


def test_the_package_builds_whole_from_what_is_copied(tmp_path: Path) -> None:
    context, wheels = tmp_path / "src", tmp_path / "wheels"
    context.mkdir()
    for source in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source,
                context / source,
                symlinks=True,
                ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
            )
        else:
            shutil.copy(ROOT / source, context / source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels, "."],
        cwd=context,
        check=True,
        timeout=120,
    )
    (wheel,) = wheels.glob("raymill-*.whl")
    with ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {
        path.relative_to(ROOT / "platform").as_posix()
        for path in (ROOT / "platform").rglob("*")
        if path.suffix in {".py", ".html", ".mako", ".yaml", ".http"} and "__pycache__" not in path.parts
    }
    assert {f"raymill/{name}" for name in wanted} <= held
