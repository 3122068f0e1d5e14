"""Every route of an application, and what each declares to ask of its caller."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from raymill.auth.needs import Caller, Need, need_of
from raymill.auth.permissions import Permission

WEBSOCKET = "WEBSOCKET"


@dataclass(frozen=True)
class Route:
    """One method of one path; ``needs`` come from its endpoint and all that this depends on."""

    method: str
    path: str
    name: str
    needs: tuple[Need, ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def permissions(self) -> list[Permission]:
        """What is asked for, in the order of asking."""
        return [permission for need in self.needs for permission in need.permissions]

    @property
    def callers(self) -> set[Caller]:
        """Who must come."""
        return {need.caller for need in self.needs if need.caller is not None}


def routes_of(app: FastAPI) -> list[Route]:
    """Return every route of the application, those of its mounts and websockets among them."""
    return [
        Route(method, context.path or "", context.name or "", tuple(_needs(context)))
        for context in iter_route_contexts(app.routes)
        for method in sorted(context.methods or {_kind(context)})
    ]


def undeclared(routes: list[Route], public: set[str]) -> list[str]:
    """Name the routes that are neither on the list of public ones nor say what they ask for."""
    return [str(route) for route in routes if not route.needs and str(route) not in public]


def _kind(context: Any) -> str:
    return WEBSOCKET if "WebSocket" in type(context.original_route).__name__ else "MOUNT"


def _needs(context: Any) -> Iterator[Need]:
    dependant = getattr(context, "dependant", None)
    if dependant is not None:
        yield from _declared(dependant)


def _declared(dependant: Dependant) -> Iterator[Need]:
    for each in dependant.dependencies:
        yield from _declared(each)
    need = need_of(dependant.call) if dependant.call is not None else None
    if need is not None:
        yield need
