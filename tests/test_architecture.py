"""The walls of the house that import-linter cannot hold."""

import ast
from pathlib import Path

import pytest

PLATFORM = Path(__file__).parents[1] / "platform"
FRONT_DOORS = {"service", "schemas", "errors", "events", "deps", "permissions", "router", "keys_router"}
# Further doors that a slice opens on purpose.
OPEN = {
    "auth": {"audit", "bootstrap", "keys", "needs", "retention", "sso", "sso_router", "users"},
    "projects": {
        "accounts_router",
        "blobs",
        "group_teams",
        "quotas",
        "secrets",
        "secrets_router",
        "teams",
        "teams_router",
    },
    "registry": {"aliases", "versions", "lineage", "pins"},
    "monitoring": {"retention", "exposition"},
    "serving": {"published", "records", "protocol", "formats", "browsers", "openapi", "pace", "server"},
    "deployments": {"follow", "publisher", "reconcile", "runtime"},
    "train": {"checkpoints", "reconcile", "runtime", "submissions", "environments", "trainers"},
}
SLICES = {
    "auth",
    "projects",
    "registry",
    "tracking",
    "data",
    "train",
    "serving",
    "deployments",
    "functions",
    "monitoring",
    "marketplace",
    "pipelines",
}
RAY_ROOMS = ("compute/", "serve_apps/", "serving/models/dedicated.py", "train/trainers/", "train/driver.py")


def modules() -> list[Path]:
    return sorted(path for path in PLATFORM.rglob("*.py") if "versions" not in path.parts)


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Return (level, dotted name) of every import, one entry per imported name."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found += [(node.level, f"{base}.{alias.name}".strip(".")) for alias in node.names]
    return found


def test_the_standard_library_keeps_its_platform_module() -> None:
    assert not (PLATFORM / "__init__.py").exists()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PLATFORM)))
def test_inside_the_package_imports_are_relative(path: Path) -> None:
    if path.parent.name == "migrations":
        assert any(name.startswith("raymill.") for _, name in imports_of(path))
        return
    assert not [name for level, name in imports_of(path) if level == 0 and name.split(".")[0] == "raymill"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PLATFORM)))
def test_ray_is_imported_only_in_its_rooms(path: Path) -> None:
    room = str(path.relative_to(PLATFORM))
    if room.startswith(RAY_ROOMS) or path.name == "runtime.py":
        return
    assert not [name for level, name in imports_of(path) if level == 0 and name.split(".")[0] == "ray"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PLATFORM)))
def test_slices_enter_each_other_by_the_front_door(path: Path) -> None:
    own = path.relative_to(PLATFORM).parts[0]
    if own == "migrations":
        return
    for level, name in imports_of(path):
        parts = name.split(".")
        if level != len(path.relative_to(PLATFORM).parts) or parts[0] not in SLICES - {own}:
            continue
        assert len(parts) > 1
        assert parts[1] in FRONT_DOORS | OPEN.get(parts[0], set()), f"{path}: {name}"


def test_models_know_no_other_slice() -> None:
    # The command line's nouns are no tables.
    for path in set(PLATFORM.glob("*/models.py")) - {PLATFORM / "cli" / "models.py"}:
        outside = [name for level, name in imports_of(path) if level == 2 and not name.startswith("kernel.")]
        assert not outside, f"{path}: {outside}"
