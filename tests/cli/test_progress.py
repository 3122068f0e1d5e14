"""Progress lines, in a terminal and in a file."""

import io

from rich.console import Console

from raymill.cli.progress import ProgressLines


def test_a_file_gets_one_line_for_each_finished_part() -> None:
    out = io.StringIO()
    with ProgressLines(Console(file=out, width=20)) as progress:
        progress.begin("Ray")
        progress.begin("Valkey")
        progress.done("Valkey", "127.0.0.1:6379 [at home]")
        progress.failed("Ray")
    first, second = out.getvalue().splitlines()
    assert first.startswith("✓ Valkey")
    assert first.endswith("127.0.0.1:6379 [at home]")
    assert second.startswith("✗ Ray")


def test_a_terminal_shows_what_is_running() -> None:
    out = io.StringIO()
    with ProgressLines(Console(file=out, force_terminal=True, width=100)) as progress:
        progress.begin("Applications")
        progress.note("Applications", "api, inference")
        progress._live.refresh()
        progress.done("Applications", "all")
    assert "api, inference" in out.getvalue()
