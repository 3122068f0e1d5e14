"""TypeIDs: a readable prefix and a UUIDv7, so that ids sort by the time of their making."""

import re

from typeid import TypeID
from typeid.codecs import base32

from .errors import ValidationFailed

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def new_id(prefix: str) -> str:
    """Make a new id such as ``mdl_01j9…`` (source: the TypeID specification 0.3)."""
    return str(TypeID(prefix=prefix))


def pack_id(prefix: str, id_: str) -> bytes | None:
    """Return the 16 bytes behind an id, None when it is no id with this prefix."""
    start, suffix = id_[: len(prefix) + 1], id_[len(prefix) + 1 :]
    # Above 7, the first of the 26 signs says more than 16 bytes can hold.
    if start != f"{prefix}_" or suffix[:1] > "7":
        return None
    try:
        return base32.decode(suffix)
    except RuntimeError:
        return None


def unpack_id(prefix: str, packed: bytes) -> str:
    """Return the id that ``pack_id`` made these 16 bytes of."""
    return f"{prefix}_{base32.encode(packed)}"


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
