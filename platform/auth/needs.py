"""What a route asks of its caller, said on the endpoint or dependency that asks it.

Declaring decides nothing: services do. A test walks every route of every app, fails for one that declares nothing, and
holds the answers to each role and key against the declaration and the one permission table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from .permissions import Permission

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = "__need__"


class Caller(StrEnum):
    """Who may come, where that is no question of permissions alone."""

    ACCOUNT = "anyone with a valid credential"
    PERSON = "the login of a person"
    JOB = "a running job"
    TEAM_MEMBER = "a member of the team"
    TEAM_OWNER = "an owner of the team"


@dataclass(frozen=True)
class Need:
    """What one function asks.

    Attributes:
        permissions: Whoever lacks one of them is refused.
        caller: Who must come.
        shown: A list holds what this lets the caller see, and refuses nobody.
    """

    permissions: tuple[Permission, ...] = ()
    caller: Caller | None = None
    shown: Permission | None = None


def needs(*permissions: Permission, caller: Caller | None = None) -> Callable[[Function], Function]:
    """Declare that the caller must hold every one of the permissions."""
    return _mark(Need(permissions=permissions, caller=caller))


def shows(permission: Permission) -> Callable[[Function], Function]:
    """Declare that a list holds what the permission lets the caller see."""
    return _mark(Need(shown=permission))


def open_to(caller: Caller) -> Callable[[Function], Function]:
    """Declare that no permission is asked for, only who comes."""
    return _mark(Need(caller=caller))


def need_of(function: Callable[..., Any]) -> Need | None:
    """Return what a function declares, if it declares something."""
    need: Need | None = getattr(function, _MARK, None)
    return need


def _mark(need: Need) -> Callable[[Function], Function]:
    def mark(function: Function) -> Function:
        vars(function)[_MARK] = need
        return function

    return mark
