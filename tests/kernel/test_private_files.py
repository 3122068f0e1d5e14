"""Private files: whole, closed to others, and changed by one process at a time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raymill.kernel.private_files import locked, write_whole


@pytest.mark.parametrize(("content", "mode"), [("text", 0o600), (b"\x00\xff", 0o640)])
def test_a_file_is_replaced_and_has_its_mode(tmp_path: Path, content: str | bytes, mode: int) -> None:
    path = tmp_path / "key"
    path.write_text("former")
    write_whole(path, content, mode=mode)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert path.stat().st_mode & 0o777 == mode
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_what_cannot_be_written_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "key", "text")
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"

    def add(number: int) -> None:
        with locked(folder):
            path = folder / "lines"
            held = path.read_text() if path.exists() else ""
            write_whole(path, f"{held}{number}\n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(50)))
    assert sorted(map(int, (folder / "lines").read_text().split())) == list(range(50))
    assert folder.stat().st_mode & 0o077 == 0
