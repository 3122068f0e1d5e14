"""Request ids on everything that follows from a request."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from raymill.kernel.settings import LogSettings
from raymill.kernel.telemetry import configure_logging, current_request_id, request_context, take_request_id


@pytest.fixture
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger("raymill")
    before = (list(root.handlers), root.level, root.propagate)
    yield
    root.handlers[:], root.level, root.propagate = before[0], before[1], before[2]
    structlog.reset_defaults()


@pytest.mark.parametrize("given", ["req-1", "a.b:c_d", "x" * 128])
def test_a_harmless_request_id_is_taken(given: str) -> None:
    assert take_request_id(given) == given


@pytest.mark.parametrize("given", [None, "", "a b", "a\nb", "x" * 129, "\u00e4"])
def test_another_one_is_replaced(given: str | None) -> None:
    assert take_request_id(given).startswith("req_")


def test_the_request_id_lives_as_long_as_its_context() -> None:
    assert current_request_id() == ""
    with request_context("req_1"):
        with request_context("req_2"):
            assert current_request_id() == "req_2"
        assert current_request_id() == "req_1"
    assert current_request_id() == ""


@pytest.mark.usefixtures("_restored_logging")
def test_log_lines_are_json_with_the_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="INFO"))
    with request_context("req_1"):
        structlog.get_logger("raymill.test").info("it_happened", rows=3)
        logging.getLogger("raymill.other").warning("it happened")
        logging.getLogger("raymill.other").debug("too quiet")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["rows"], first["request_id"], first["level"]) == ("it_happened", 3, "req_1", "info")
    assert (second["event"], second["request_id"], second["logger"]) == ("it happened", "req_1", "raymill.other")
