"""Paging through what several servers wrote down at the same time."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymill.kernel.errors import ValidationFailed
from raymill.kernel.settings import Settings
from raymill.kernel.storage import ObjectStore
from raymill.monitoring import journals
from raymill.monitoring.journals import Place, Wanted, read_page
from raymill.serving.records.journal import file_name, micros, to_parquet
from raymill.serving.records.log import FORM, Row

FOLDER = "prj_1/inference-log"
START = datetime(2026, 1, 31, 23, 59, 0, tzinfo=UTC)


def row(seconds: float, number: int, *, endpoint: str = "dep_1", revision: int = 1, status: int = 200) -> Row:
    moment = START.timestamp() + seconds
    return Row(
        moment, b"req_%05d" % number, "prj_1", endpoint, "p.m", revision, "usr_1", 0.001, status, None, None, None
    )


def write(store: ObjectStore, rows: list[Row], server: str) -> None:
    """Write rows as one server's flush does: a file for each day."""
    by_day = defaultdict(list)
    for each in rows:
        by_day[f"{datetime.fromtimestamp(each.time, UTC):%Y-%m-%d}"].append(each)
    for day, own in by_day.items():
        name = file_name([micros(each.time) for each in own], server)
        store.put_document(f"{FOLDER}/{day}/{name}", to_parquet(FORM, own))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(Settings(home=tmp_path))


def ids(store: ObjectStore, limit: int, **wanted: object) -> tuple[list[str], int]:
    """Read all pages; return the request ids in their order, and how many pages there were."""
    found: list[str] = []
    before: Place | None = None
    pages = 0
    while True:
        page = read_page(store, FOLDER, Wanted("dep_1", before=before, **wanted), limit=limit)
        assert len(page.items) <= limit
        found += [item["request_id"] for item in page.items]
        pages += 1
        assert pages < 200
        if page.next_cursor is None:
            return found, pages
        before = Place.read(page.next_cursor)


FLUSHES = st.lists(
    st.lists(st.integers(0, 119), min_size=1, max_size=6).map(sorted), min_size=1, max_size=8
)  # seconds of the rows of each file, on both sides of midnight


@settings(max_examples=12, deadline=None)
@given(FLUSHES, st.integers(1, 5), st.integers(1, 3))
def test_pages_hold_every_row_once_newest_first(flushes, limit, most_files):
    with TemporaryDirectory() as folder:
        store = ObjectStore(Settings(home=Path(folder)))
        rows = []
        for number, seconds in enumerate(flushes):
            made = [row(second, 100 * number + index) for index, second in enumerate(seconds)]
            write(store, made, f"srv-{number}")
            rows += made
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journals, "MOST_FILES", most_files)
            found, _ = ids(store, limit)
    newest_first = sorted(rows, key=lambda each: (each.time, each.request_id), reverse=True)
    assert found == [each.request_id.decode() for each in newest_first]


def test_rows_are_found_by_time_revision_status_and_request(store):
    write(store, [row(0, 0), row(1, 1, revision=2), row(2, 2, status=422), row(3, 3, endpoint="dep_2")], "srv-1")
    write(store, [row(90, 4)], "srv-2")
    store.put_document(f"{FOLDER}/2026-01-31/notes.txt", b"not a journal's")
    assert ids(store, 10)[0] == ["req_00004", "req_00002", "req_00001", "req_00000"]
    assert ids(store, 10, equal={"revision": 2})[0] == ["req_00001"]
    assert ids(store, 10, equal={"status": 422})[0] == ["req_00002"]
    assert ids(store, 10, equal={"request_id": "req_00004"})[0] == ["req_00004"]
    assert ids(store, 10, since=START + timedelta(seconds=2))[0] == ["req_00004", "req_00002"]
    assert ids(store, 10, until=START + timedelta(seconds=1))[0] == ["req_00001", "req_00000"]
    assert ids(store, 10, since=START + timedelta(days=9)) == ([], 1)


def test_files_outside_the_range_are_not_opened(store):
    write(store, [row(0, 0)], "srv-1")
    store.put_document(f"{FOLDER}/2026-01-31/{file_name([0, 1], 'srv-1')}", b"would not open")
    assert ids(store, 10, since=START)[0] == ["req_00000"]


@pytest.mark.parametrize("cursor", ["", "!", "MTIz:x", journals.to_cursor("x:y"), journals.to_cursor("9" * 40 + ":")])
def test_a_cursor_of_elsewhere_is_refused(cursor):
    with pytest.raises(ValidationFailed):
        Place.read(cursor)
