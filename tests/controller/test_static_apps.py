"""Static applications that somebody deleted, and those that somebody left out on purpose."""

from dataclasses import replace
from typing import Any

import pytest

from raymill.controller.models import Lease
from raymill.controller.static_apps import Declared, find_declaration, keep_declaration, missing
from raymill.kernel.resources import Resources


def row(name: str, at: float = 10.0, **changes: Any) -> dict[str, Any]:
    config = {"name": name, "import_path": f"raymill.serve_apps.{name}:build", "route_prefix": None}
    known = {"source": "declarative", "status": "RUNNING", "deployed_app_config": config, "last_deployed_time_s": at}
    return known | changes


def answer(**rows: dict[str, Any]) -> dict[str, Any]:
    return {"applications": rows, "http_options": {"port": 8000}, "grpc_options": None, "target_capacity": None}


ALL = Declared.read(answer(api=row("api"), inference=row("inference"), controller=row("controller")))


def test_a_declaration_is_read_as_it_was_made() -> None:
    seen = Declared.read(answer(api=row("api"), dynamic=row("dynamic", source="imperative")))
    assert seen.config() == {
        "http_options": {"port": 8000},
        "applications": [{"name": "api", "import_path": "raymill.serve_apps.api:build", "route_prefix": None}],
    }


@pytest.mark.parametrize(
    "gone", [{}, {"inference": row("inference", status="DELETING", deployed_app_config=None)}], ids=["gone", "going"]
)
def test_what_was_deleted_by_hand_is_missing(gone: dict[str, dict[str, Any]]) -> None:
    seen = Declared.read(answer(api=row("api"), controller=row("controller"), **gone))
    assert missing(ALL, seen) == {"inference"}


def test_nothing_is_missing_when_nothing_is_known_or_gone() -> None:
    assert missing(None, ALL) == frozenset()
    assert missing(ALL, ALL) == frozenset()


def test_what_a_later_declaration_leaves_out_is_not_missing() -> None:
    seen = Declared.read(answer(api=row("api", 11.0), controller=row("controller", 11.0)))
    assert missing(ALL, seen) == frozenset()


def test_nobody_puts_back_what_goes_with_the_controller() -> None:
    assert missing(ALL, Declared.read(answer(api=row("api")))) == frozenset()


@pytest.mark.integration
def test_the_last_declaration_of_a_cluster_is_kept(resources: Resources) -> None:
    with resources.session() as session:
        session.add(Lease(name="cluster:a", holder="h"))
        session.flush()
        assert find_declaration(session, "cluster:a") is None
        for kept in (ALL, replace(ALL, at=11.0)):
            keep_declaration(session, "cluster:a", kept)
    with resources.session() as session:
        assert find_declaration(session, "cluster:a") == replace(ALL, at=11.0)
