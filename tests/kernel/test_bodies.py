"""What request bodies may write for a number and for a moment."""

from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ValidationError

from raymill.kernel.bodies import Amount, Count, Moment, Number, VersionNumber, Whole


class Body(BaseModel):
    whole: Whole | None = None
    number: Number | None = None
    count: Count | None = None
    amount: Amount | None = None
    version: VersionNumber | None = None
    moment: Moment | None = None


def test_numbers_and_moments_are_read() -> None:
    body = Body.model_validate({"whole": -3, "number": 1, "count": 3.0, "moment": "2026-01-31T12:00:00Z"})
    assert (body.whole, body.number, body.count) == (-3, 1.0, 3)
    assert body.moment == datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        {"whole": True},
        {"whole": "3"},
        {"number": False},
        {"number": "0.5"},
        {"number": float("nan")},
        {"count": -1},
        {"count": 2**53 + 1},
        {"amount": -0.5},
        {"version": 0},
        {"moment": 0},
        {"moment": "0.5"},
        {"moment": "2026-01-31T12:00:00"},
    ],
    ids=str,
)
def test_what_only_looks_like_one_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Body.model_validate(wrong)


def test_the_schema_says_the_bounds() -> None:
    properties = Body.model_json_schema()["properties"]
    assert properties["count"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 2**53}
    assert properties["version"]["anyOf"][0] == {"type": "integer", "minimum": 1}
    assert properties["moment"]["anyOf"][0] == {"type": "string", "format": "date-time"}
