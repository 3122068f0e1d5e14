"""A table with everything that users' files have: an id, texts, gaps, dates, times, a constant, booleans."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa

CITIES = ["Bern", "Köln", "Wien", None]


def mixed_rows(count: int = 120) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)

    def draw(low: int, high: int) -> int:
        return int(rng.integers(low, high))

    return [
        {
            "key": f"u-{number}",
            "size": float(rng.uniform(-5, 5)),
            "city": CITIES[draw(0, 4)],
            "age": [None, draw(18, 90)][draw(0, 2)],
            "day": [None, dt.date(2024, 1, 1) + dt.timedelta(days=draw(0, 400))][draw(0, 2)],
            "at": dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=draw(0, 10**6)),
            "clock": dt.time(draw(0, 24), draw(0, 60)),
            "same": "x",
            "member": bool(draw(0, 2)),
        }
        for number in range(count)
    ]


def with_targets(rows: list[dict[str, Any]]) -> pa.Table:
    """Add a class and a number that follow from the size."""
    told = [row | {"kind": "Größe" if row["size"] > 0 else "klein", "price": 2e5 + 1e4 * row["size"]} for row in rows]
    return pa.Table.from_pylist(told)
