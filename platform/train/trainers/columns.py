"""Which columns of a table can be learned from, and how: decided from its statistics, before any job starts."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from ..errors import UnsuitableDataset

Task = Literal["classification", "regression"]

MAX_CATEGORIES = 100
MAX_CLASSES = 1000
MIN_ROWS = 10
NUMBERS = ("int", "uint", "float", "double", "halffloat", "bool", "decimal")
_MOMENTS = ("date", "timestamp", "time")
_TEXTS = ("string", "large_string")
_DICTIONARY = "dictionary<values="
# Beyond some ten thousand distinct values their number is an estimate.
_NEARLY_ALL = 0.95
_ID_NAME = re.compile(
    r"(?i:(?:.*[ _.-])?(?:id|index|idx|row|row[ _-]?(?:id|no|nr|num|number)|unnamed: ?\d+))|.*[a-z]I[dD]"
)


class Role(StrEnum):
    """What a column is to the network."""

    NUMBER = "number"
    MOMENT = "moment"
    CATEGORY = "category"


@dataclass(frozen=True)
class ColumnFacts:
    """What is known of a column: its Arrow type, and figures of its values; ``count`` leaves out empty cells."""

    name: str
    type: str
    count: int
    nulls: int
    distinct: int | None
    low: Any = None
    high: Any = None
    non_finite: int = 0

    @property
    def role(self) -> Role | None:
        """How the column could serve; None for types that cannot."""
        plain = self.type.removeprefix(_DICTIONARY)
        if plain.startswith(NUMBERS):
            return Role.NUMBER
        if plain.startswith(_MOMENTS):
            return Role.MOMENT
        return Role.CATEGORY if plain.startswith(_TEXTS) else None


@dataclass(frozen=True)
class Feature:
    """A column that is learned from; a nullable one may be empty in a prediction too."""

    name: str
    role: Role
    nullable: bool


@dataclass(frozen=True)
class Plan:
    """The features in the order of the table, and why each other column is left out."""

    features: list[Feature]
    left_out: dict[str, str]

    def names(self, role: Role) -> list[str]:
        """Return the features of one role."""
        return [feature.name for feature in self.features if feature.role == role]


def check_table(
    target: str,
    columns: list[dict[str, Any]],
    statistics: dict[str, Any],
    row_count: int,
    task: Task = "classification",
) -> None:
    """Refuse a table that a tabular trainer cannot learn from, before any job starts.

    Raises:
        UnsuitableDataset: The message names the column.
    """
    plan_columns(
        target, [_facts(column, statistics[column["name"]]) for column in columns], row_count=row_count, task=task
    )


def plan_columns(target: str, facts: list[ColumnFacts], *, row_count: int, task: Task) -> Plan:
    """Decide what to learn from.

    Raises:
        UnsuitableDataset: If the target does not fit the task, a column cannot be read, or none is left.
    """
    known = {column.name: column for column in facts}
    if target not in known:
        raise UnsuitableDataset(f"The target column {target!r} is not in the dataset; its columns are {[*known]}.")
    others = [column for column in facts if column.name != target]
    if not others:
        raise UnsuitableDataset(f"The dataset has no column beside the target {target!r}.")
    if row_count < MIN_ROWS:
        raise UnsuitableDataset(f"The dataset has {row_count} rows; to learn {target!r} it takes at least {MIN_ROWS}.")
    _check_target(known[target], row_count, task)
    return _plan(target, others, row_count)


def _facts(column: dict[str, Any], known: dict[str, Any]) -> ColumnFacts:
    return ColumnFacts(
        name=column["name"],
        type=column["type"],
        count=known["count"],
        nulls=known["nulls"],
        distinct=known.get("distinct"),
        low=known.get("min"),
        high=known.get("max"),
        non_finite=known.get("non_finite", 0),
    )


def _check_target(target: ColumnFacts, row_count: int, task: Task) -> None:
    name = f"The target column {target.name!r}"
    if target.nulls:
        raise UnsuitableDataset(f"{name} has {target.nulls} empty cells; fill them or drop those rows.")
    if target.non_finite:
        raise UnsuitableDataset(f"{name} has NaN or infinities; replace them or drop those rows.")
    if task == "regression" and (target.role != Role.NUMBER or target.type == "bool"):
        raise UnsuitableDataset(f"{name} is of type {target.type}; only numbers can be predicted by a regression.")
    if target.role is None or target.distinct is None:
        raise UnsuitableDataset(f"{name} is of type {target.type}, which cannot name classes.")
    if target.distinct < 2:
        raise UnsuitableDataset(f"{name} has only one value; there is nothing to learn.")
    if task == "classification" and target.distinct > min(MAX_CLASSES, row_count // 2):
        hint = "; the trainer 'tabular-regressor' predicts numbers" if target.role == Role.NUMBER else ""
        raise UnsuitableDataset(
            f"{name} has too many different values to be classes: {target.distinct} in {row_count} rows{hint}."
        )


def _plan(target: str, others: Iterable[ColumnFacts], row_count: int) -> Plan:
    features: list[Feature] = []
    left_out: dict[str, str] = {}
    for column in others:
        reason = _reason_to_leave_out(column, row_count)
        if reason is not None:
            left_out[column.name] = reason
        else:
            features.append(_feature(column))
    if not features:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in left_out.items())
        raise UnsuitableDataset(f"No column beside the target {target!r} can be learned from: {reasons}.")
    return Plan(features, left_out)


def _feature(column: ColumnFacts) -> Feature:
    if column.role is None:
        raise UnsuitableDataset(
            f"The column {column.name!r} is of type {column.type}; features must be numbers, texts, dates or times."
        )
    if column.non_finite:
        raise UnsuitableDataset(f"The column {column.name!r} has NaN or infinities; replace them or leave cells empty.")
    return Feature(column.name, column.role, nullable=column.nulls > 0)


def _reason_to_leave_out(column: ColumnFacts, row_count: int) -> str | None:
    if column.count == 0:
        return "it is empty in every row"
    if column.role == Role.NUMBER:
        return "it numbers the rows" if _numbers_the_rows(column, row_count) else None
    if column.role != Role.CATEGORY or column.distinct is None:
        return None
    if column.distinct == 1 and not column.nulls:
        return "it has the same value in every row"
    if column.distinct == column.count:
        return "it has another value in every row, like an id"
    if column.distinct > max(MAX_CATEGORIES, column.count // 2):
        return "it has another value in nearly every row, like an id or free text"
    return None


def _numbers_the_rows(column: ColumnFacts, row_count: int) -> bool:
    whole = isinstance(column.low, int) and isinstance(column.high, int) and column.type != "bool"
    if not whole or column.low not in (0, 1) or column.high - column.low + 1 != row_count:
        return False
    return (column.distinct or 0) >= _NEARLY_ALL * row_count and _ID_NAME.fullmatch(column.name) is not None
