"""What a project may set in the runtime environment of its programs (the fields of Ray 2.60's ``RuntimeEnv``).

Left out are the fields that leave the isolation of a job: container images and profilers run commands of their own on
the node, a setup hook runs in every worker, ``py_executable`` replaces the interpreter, and ``conda`` installs with
the environment of the node, which holds the platform's secrets (``pip`` and ``uv`` install with that of the job).
"""

import re
from collections.abc import Mapping
from typing import Any

from .errors import BadPackageName, EnvironmentRefused

__all__ = [
    "ALLOWED",
    "REDACTED",
    "check_environment",
    "check_package_name",
    "package_name",
    "package_uris",
    "redacted",
    "shown_config",
    "stored_uri",
    "with_uris",
]

ALLOWED = ("config", "env_vars", "pip", "py_modules", "uv", "working_dir")
REDACTED = "<redacted>"
_LONGEST_SETUP_S = 3600
# Ray's client adds the one beside pip, and has applied the other before it uploaded.
_MEANT_FOR_THE_CLIENT = frozenset({"_ray_commit", "excludes"})
_RESERVED = ("RAYMILL_", "RAY_")
_PACKAGE = re.compile(r"[A-Za-z0-9_.-]{1,180}?(\.zip|\.tar\.gz|\.tgz|\.tar\.xz)")
_PROTOCOL = "gcs://"


def check_environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment without what was meant for the client.

    Raises:
        EnvironmentRefused: If it holds something that a project may not set; the message names it.
    """
    given = {field: value for field, value in environment.items() if field not in _MEANT_FOR_THE_CLIENT}
    for field in given:
        if field not in ALLOWED:
            raise EnvironmentRefused(field, f"A project may set {', '.join(ALLOWED)} there.")
    _check_variables(given.get("env_vars", {}))
    _check_config(given.get("config", {}))
    for field in ("pip", "uv"):
        if not isinstance(given.get(field, []), list | dict):
            raise EnvironmentRefused(field, "Give a list of packages; a path on the server is not read.")
    for uri in package_uris(given):
        if not uri.startswith(_PROTOCOL):
            raise EnvironmentRefused(
                "working_dir or py_modules", f"{uri!r} was not uploaded here; give a local folder."
            )
    return given


def package_uris(environment: Mapping[str, Any]) -> list[str]:
    """Return the URIs that ``working_dir`` and ``py_modules`` name.

    Raises:
        EnvironmentRefused: If they hold anything else than text.
    """
    folder, modules = environment.get("working_dir"), environment.get("py_modules") or []
    if not isinstance(modules, list):
        raise EnvironmentRefused("py_modules", "Give a list.")
    uris = [*([] if folder is None else [folder]), *modules]
    if not all(isinstance(uri, str) for uri in uris):
        raise EnvironmentRefused("working_dir or py_modules", "Give text.")
    return uris


def with_uris(environment: Mapping[str, Any], uris: Mapping[str, str]) -> dict[str, Any]:
    """Return the environment with each package's URI replaced."""
    replaced = dict(environment)
    if "working_dir" in replaced:
        replaced["working_dir"] = uris[replaced["working_dir"]]
    if "py_modules" in replaced:
        replaced["py_modules"] = [uris[uri] for uri in replaced["py_modules"] or []]
    return replaced


def check_package_name(name: str) -> str:
    """Return the extension of a package's name.

    Raises:
        BadPackageName: If it is not a plain file name of a kind of archive that Ray unpacks.
    """
    match = _PACKAGE.fullmatch(name)
    if match is None:
        raise BadPackageName(
            f"{name!r} is no name of a package: upload a folder or a .zip, .tar.gz, .tgz or .tar.xz file, "
            "and name wheels in pip."
        )
    return match[1]


def package_name(uri: str) -> str:
    """Return the name that a client gave a package."""
    return uri.removeprefix(_PROTOCOL)


def stored_uri(name: str, sha256: str) -> str:
    """Return the URI in Ray's package store, which all projects share: it follows from the content alone."""
    return f"{_PROTOCOL}_ray_pkg_{sha256}{check_package_name(name)}"


def redacted(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment with the values of its variables hidden, as Ray's dashboard shows it."""
    shown = dict(environment)
    if "env_vars" in shown:
        shown["env_vars"] = dict.fromkeys(shown["env_vars"], REDACTED)
    return shown


def shown_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's configuration as people see it."""
    environment = config.get("runtime_env")
    return dict(config) if environment is None else {**config, "runtime_env": redacted(environment)}


def _check_variables(variables: Any) -> None:
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise EnvironmentRefused("env_vars", "Give texts by name.")
    for name in variables:
        if name.startswith(_RESERVED):
            raise EnvironmentRefused(f"env_vars.{name}", "Names that begin with RAYMILL_ or RAY_ are the platform's.")


def _check_config(config: Any) -> None:
    if not isinstance(config, dict):
        raise EnvironmentRefused("config", "Give an object.")
    known = {"setup_timeout_seconds", "eager_install", "log_files"}
    if unknown := sorted(config.keys() - known):
        raise EnvironmentRefused(f"config.{unknown[0]}", "There is no such field.")
    if config.get("log_files"):
        raise EnvironmentRefused("config.log_files", "Write to standard output.")
    seconds = config.get("setup_timeout_seconds", 1)
    if not isinstance(seconds, int) or not 0 < seconds <= _LONGEST_SETUP_S:
        raise EnvironmentRefused("config.setup_timeout_seconds", f"Give 1 to {_LONGEST_SETUP_S} seconds.")
