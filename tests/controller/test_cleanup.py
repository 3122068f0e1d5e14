"""What is removed after a while, and what stays."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from raymill.auth.models import AuthSession, Invitation, RefreshToken, User
from raymill.controller.cleanup import KEPT, clean, forget_logins
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


DAY = timedelta(days=1)
DEAD, YOUNG = NOW - 31 * DAY, NOW - 29 * DAY


def log_in(
    resources: Resources, name: str, *, made: datetime, expires: datetime, revoked: datetime | None = None
) -> None:
    with resources.database.session() as session:
        session.add(AuthSession(id=f"ses_{name}", user_id="usr_1", created_at=made, revoked_at=revoked))
        session.flush()
        for number, until in enumerate((expires - 5 * DAY, expires)):
            token = RefreshToken(id=f"rft_{name}{number}", session_id=f"ses_{name}", secret_sha256=f"{name}{number}")
            token.expires_at = until
            session.add(token)


def ids(resources: Resources, table: type[AuthSession | RefreshToken | Invitation]) -> set[str]:
    with resources.database.session() as session:
        return {id_.partition("_")[2] for id_ in session.exec(select(table.id))}


@pytest.fixture
def account(resources: Resources) -> None:
    with resources.database.session() as session:
        session.add(User(id="usr_1", email="a@example.com", name="A", role="developer"))


@pytest.mark.usefixtures("account")
def test_sessions_are_forgotten_when_they_ended_long_ago(resources: Resources) -> None:
    log_in(resources, "living", made=DEAD - 50 * DAY, expires=NOW + DAY)
    log_in(resources, "expired", made=DEAD - 50 * DAY, expires=DEAD)
    log_in(resources, "lately", made=DEAD - 50 * DAY, expires=YOUNG)
    log_in(resources, "revoked", made=DEAD - 50 * DAY, expires=NOW + DAY, revoked=DEAD)
    log_in(resources, "ended", made=DEAD - 50 * DAY, expires=NOW + DAY, revoked=YOUNG)
    for _ in range(2):
        forget_logins(resources, now=lambda: NOW, batch=1)
        assert ids(resources, AuthSession) == {"living", "lately", "ended"}
    assert ids(resources, RefreshToken) == {"living0", "living1", "lately1", "ended0", "ended1"}


@pytest.mark.usefixtures("account")
def test_a_revocation_is_kept_while_a_token_could_live(resources: Resources) -> None:
    resources.settings.auth = resources.settings.auth.model_copy(update={"keep_ended_s": 0})
    ttl = timedelta(seconds=resources.settings.auth.access_token_ttl_s)
    for name, revoked in (("gone", NOW - 3 * ttl), ("told", NOW - 0.9 * ttl)):
        log_in(resources, name, made=DEAD, expires=NOW + DAY, revoked=revoked)
    forget_logins(resources, now=lambda: NOW)
    assert ids(resources, AuthSession) == {"told"}


@pytest.mark.usefixtures("account")
def test_invitations_are_forgotten_when_they_are_of_no_use(resources: Resources) -> None:
    with resources.database.session() as session:
        for name, expires, used in (
            ("waiting", NOW + DAY, None),
            ("expired", DEAD, None),
            ("late", YOUNG, None),
            ("used", NOW + DAY, DEAD),
            ("new", NOW + DAY, YOUNG),
        ):
            session.add(
                Invitation(
                    id=f"inv_{name}",
                    email=f"{name}@example.com",
                    role="developer",
                    invited_by="usr_1",
                    secret_sha256=name,
                    expires_at=expires,
                    used_at=used,
                )
            )
    forget_logins(resources, now=lambda: NOW)
    assert ids(resources, Invitation) == {"waiting", "late", "new"}
