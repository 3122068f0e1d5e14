"""Kinds of values that request bodies hold."""

import re
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator, Field, WithJsonSchema
from pydantic.types import AllowInfNan

from .ids import NAME

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _written_as_a_date(value: object) -> object:
    if isinstance(value, int | float) or (isinstance(value, str) and not _DATE.match(value)):
        raise ValueError("a date and time as in RFC 3339 is wanted, such as 2026-01-31T12:00:00Z")
    return value


def _written_as_a_number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("a number is wanted, not a text or a truth value")
    return value


IS_A_NUMBER = BeforeValidator(_written_as_a_number)

Moment = Annotated[AwareDatetime, BeforeValidator(_written_as_a_date)]
Whole = Annotated[int, IS_A_NUMBER]
Number = Annotated[float, AllowInfNan(False), IS_A_NUMBER]
# JSON has no larger whole numbers that every reader keeps (RFC 8259, section 6).
Count = Annotated[int, Field(ge=0, le=2**53), IS_A_NUMBER]
Amount = Annotated[float, AllowInfNan(False), Field(ge=0), IS_A_NUMBER]
VersionNumber = Annotated[int, Field(ge=1), IS_A_NUMBER]
# The rule itself is held by ``check_name``, which says it in words.
PlainName = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"})]
