"""What is removed after a day, and what stays."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from raymill.controller.cleanup import KEPT, clean
from raymill.controller.models import Lease, ServeDeclaration
from raymill.kernel.events import OutboxEvent
from raymill.kernel.idempotency import IdempotencyRecord
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration

NOW = datetime(2030, 1, 2, tzinfo=UTC)
OLD, RECENT = NOW - KEPT - timedelta(seconds=1), NOW - KEPT + timedelta(seconds=1)


def test_what_is_done_with_goes_and_the_rest_stays(resources: Resources) -> None:
    with resources.database.session() as session:
        for name, moment in (("old", OLD), ("recent", RECENT)):
            session.add(IdempotencyRecord(principal_id="usr_1", key=name, request_sha256="", created_at=moment))
            session.add(OutboxEvent(id=f"evt_{name}", kind="K", body={}, created_at=moment, delivered_at=moment))
            session.add(Lease(name=f"cluster:{name}", holder="h", expires_at=moment))
            session.flush()
            session.add(ServeDeclaration(lease=f"cluster:{name}", declared={}))
        session.add(OutboxEvent(id="evt_pending", kind="K", body={}, created_at=OLD))
    clean(resources, now=lambda: NOW)
    with resources.database.session() as session:
        assert list(session.exec(select(IdempotencyRecord.key))) == ["recent"]
        assert list(session.exec(select(ServeDeclaration.lease))) == ["cluster:recent"]
        assert set(session.exec(select(OutboxEvent.id))) == {"evt_recent", "evt_pending"}
