"""How long logs are kept."""

from datetime import UTC, datetime

import pytest

from raymill.kernel.resources import Resources
from raymill.monitoring.retention import forget_logs

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)


def test_days_that_ended_long_ago_are_removed(resources: Resources) -> None:
    store = resources.store
    kept = ["prj_1/inference-log/2026-03-01/a", "prj_1/inference-log/notes/a", "prj_1/sha256/2026-01-01/a"]
    gone = ["prj_1/inference-log/2026-02-28/a", "prj_1/feedback/2026-02-28/a", "prj_2/inference-log/2025-01-01/b"]
    for uri in (*kept, *gone, "other/inference-log/2025-01-01/a"):
        store.put_document(uri, b"x")
    forget_logs(resources, now=lambda: NOW)
    found = [uri for uri in store.list_documents("") if not uri.startswith(".")]
    assert found == sorted(["other/inference-log/2025-01-01/a", *kept])
    assert store.list_folders("prj_2/inference-log") == []
    forget_logs(resources, now=lambda: NOW)
