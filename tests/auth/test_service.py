"""The rules of accounts and sessions, against a real database."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from factories import Tenant
from raymill.auth import registration, service, users
from raymill.auth.bootstrap import ADMIN_EMAIL, ensure_admin, reset_admin_password
from raymill.auth.errors import EmailTaken, InvalidCredentials, SessionEnded, WeakPassword
from raymill.auth.events import SessionRevoked
from raymill.auth.models import RefreshToken, User
from raymill.auth.passwords import check_password
from raymill.auth.permissions import GlobalRole
from raymill.auth.schemas import LoginCredentials, UserRegistration
from raymill.kernel.clock import utc_now
from raymill.kernel.errors import AuthenticationFailed
from raymill.kernel.resources import Resources
from raymill.kernel.settings import AuthSettings


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("eleven-char", "min_length"),
        ("", "min_length"),
        ("abababababab", "different_characters"),
        ("1qaz2wsx3edc", "common"),
        ("Password1234", "common"),
        ("abcdabcdabcd", "guessable"),
        ("qwertyuiop12", "common"),
    ],
)
def test_a_weak_password_names_its_rule(password: str, rule: str) -> None:
    with pytest.raises(WeakPassword) as refusal:
        check_password(password, AuthSettings())
    assert refusal.value.details == {"rule": rule}


def test_the_least_password_passes() -> None:
    check_password("blue-otter-7", AuthSettings())
    check_password("пароль-слово", AuthSettings())


def test_the_shortest_length_is_a_setting() -> None:
    with pytest.raises(WeakPassword, match="at least 20"):
        check_password("abcdefghijklmnop", AuthSettings(min_password_length=20))


@pytest.mark.integration
def test_parallel_registrations_of_one_email_make_one_account(resources: Resources) -> None:
    data = UserRegistration(email="carol@example.com", name="Carol", password="correct horse battery")

    def attempt(_: int) -> bool:
        try:
            with resources.session() as session:
                registration.register(session, data=data, signer=resources.signer, settings=resources.settings.auth)
        except EmailTaken:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [False, False, False, True]


@pytest.mark.integration
def test_the_admin_is_made_once_and_can_log_in(resources: Resources) -> None:
    password = ensure_admin(resources.settings)
    assert password is not None
    assert ensure_admin(resources.settings) is None
    with resources.session() as session:
        answer = service.login(
            session,
            credentials=LoginCredentials(email=ADMIN_EMAIL, password=password),
            signer=resources.signer,
            settings=resources.settings.auth,
        )
    assert answer.user.role == GlobalRole.ADMIN


@pytest.mark.integration
def test_a_new_password_of_the_admin_ends_the_old_one_and_its_sessions(resources: Resources) -> None:
    def log_in(password: str) -> str:
        credentials, auth = LoginCredentials(email=ADMIN_EMAIL, password=password), resources.settings.auth
        with resources.session() as session:
            return service.login(session, credentials=credentials, signer=resources.signer, settings=auth).access_token

    first = reset_admin_password(resources.settings)
    token = log_in(first)
    second = reset_admin_password(resources.settings)
    with pytest.raises(InvalidCredentials):
        log_in(first)
    with resources.session() as session:
        assert not service.validate_token(session, token=token, signer=resources.signer).valid
    log_in(second)


@pytest.mark.integration
def test_the_operator_gets_a_lost_administration_back(resources: Resources, alice: Tenant) -> None:
    ensure_admin(resources.settings)
    with resources.session() as session:
        session.execute(update(User).values(disabled_at=utc_now(), role="guest"))
    credentials = LoginCredentials(email=ADMIN_EMAIL, password=reset_admin_password(resources.settings))
    with resources.session() as session:
        answer = service.login(
            session, credentials=credentials, signer=resources.signer, settings=resources.settings.auth
        )
    assert answer.user.role == GlobalRole.ADMIN


@pytest.mark.integration
def test_a_deleted_admin_does_not_come_back_while_there_is_another(resources: Resources, alice: Tenant) -> None:
    ensure_admin(resources.settings)
    with resources.session() as session:
        first = service.find_user(session, ADMIN_EMAIL)
        assert first is not None
        users.assign_role(session, alice.user_id, GlobalRole.ADMIN)
        users.delete_user(session, first.id)
    assert ensure_admin(resources.settings) is None
    with resources.session() as session:
        assert service.find_user(session, ADMIN_EMAIL) is None


@pytest.mark.integration
def test_two_processes_make_one_admin(resources: Resources) -> None:
    with ThreadPoolExecutor(3) as pool:
        passwords = list(pool.map(ensure_admin, [resources.settings] * 3))
    assert [password for password in passwords if password] != []
    assert passwords.count(None) == 2


@pytest.mark.integration
def test_a_disabled_account_is_refused_at_once_everywhere(resources: Resources, alice: Tenant) -> None:
    key = alice.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    with resources.session() as session:
        session.execute(update(User).where(col(User.id) == alice.user_id).values(disabled_at=utc_now()))
        assert service.disabled_users(session) == [alice.user_id]
    login = {"email": "alice@example.com", "password": "correct horse battery"}
    refresh = {"refresh_token": alice.tokens["refresh_token"]}
    assert alice.get("/auth/me").status_code == 401
    assert alice.client.get("/api/v1/projects", headers={"X-API-Key": key["key"]}).status_code == 401
    assert alice.client.post("/api/v1/auth/login", json=login).status_code == 401
    assert alice.client.post("/api/v1/auth/refresh", json=refresh).status_code == 401


@pytest.mark.integration
def test_an_expired_refresh_token_is_refused_and_revokes_nothing(resources: Resources, alice: Tenant) -> None:
    with resources.session() as session:
        session.execute(update(RefreshToken).values(expires_at=utc_now() - timedelta(seconds=1)))
        with pytest.raises(AuthenticationFailed, match="expired"):
            service.rotate(
                session,
                token=alice.tokens["refresh_token"],
                signer=resources.signer,
                settings=resources.settings.auth,
            )
    assert alice.get("/auth/me").status_code == 200


@pytest.mark.integration
def test_a_token_of_another_platform_is_refused(resources: Resources, alice: Tenant) -> None:
    foreign = resources.signer.access_token(user_id=alice.user_id, session_id="ses_unknown", now=utc_now())
    with resources.session() as session, pytest.raises(SessionEnded):
        service.live_user(session, user_id=alice.user_id, session_id="ses_unknown")
    answer = alice.client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {foreign}"})
    assert answer.status_code == 401


@pytest.mark.integration
def test_revoked_sessions_are_listed_until_their_last_token_dies(resources: Resources, alice: Tenant) -> None:
    claims = resources.signer.verifier.claims(alice.tokens["access_token"])
    seen: list[SessionRevoked] = []
    resources.events.subscribe(SessionRevoked, seen.append)
    alice.post("/auth/logout")
    with resources.session() as session:
        listed = service.revoked_sessions(session, resources.settings.auth)
        assert list(listed) == [claims.session_id]
        assert listed[claims.session_id] >= claims.expires_at
    assert seen == [SessionRevoked(session_id=claims.session_id)]


@pytest.mark.integration
def test_secrets_are_stored_as_hashes_only(resources: Resources, alice: Tenant) -> None:
    with resources.session() as session:
        stored = session.exec(select(RefreshToken.secret_sha256)).all()
        user = service.get_user(session, alice.user_id)
    assert alice.tokens["refresh_token"] not in stored
    assert user.password_hash.startswith("$argon2id$")
