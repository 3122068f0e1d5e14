"""TypeIDs: a readable prefix and a UUIDv7, so that ids sort by the time of their making."""

import re

from typeid import TypeID

from .errors import ValidationFailed

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def new_id(prefix: str) -> str:
    """Make a new id such as ``mdl_01j9…`` (source: the TypeID specification 0.3)."""
    return str(TypeID(prefix=prefix))


def check_name(name: str) -> str:
    """Return the name when it fits the house rule for projects, models and deployments.

    Raises:
        ValidationFailed: If it does not.
    """
    if not NAME.fullmatch(name):
        raise ValidationFailed(
            f"The name {name!r} is not allowed: use 1 to 40 lower-case letters, digits and dashes, "
            "starting with a letter or a digit.",
            details={"name": name},
        )
    return name
