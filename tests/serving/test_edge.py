"""Who may invoke, decided in memory."""

from datetime import UTC, datetime, timedelta

import pytest
from plane import FOREIGN_KEY, KEY, VIEWER_KEY, Plane

from raymill.kernel.errors import PermissionDenied, RaymillError
from raymill.kernel.security import hash_secret
from raymill.serving.edge.access import Edge
from raymill.serving.errors import CredentialMissing, CredentialRefused, EndpointNotFound, TooManyStrangers
from raymill.serving.published.directory import Directory
from raymill.serving.published.documents import Tombstone, unseal
from raymill.serving.published.grants import Administrators, KeyGrant, ProjectGrants, Revocations
from raymill.serving.published.table import AccessPolicy, EndpointDocument, Revision

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Desk:
    """An edge with a clock that stands still unless moved."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.now = NOW
        self.directory = Directory()
        self.edge = Edge(self.directory, plane.signer.verifier, now=lambda: self.now.timestamp())

    def take(self, sealed) -> bool:
        return self.directory.apply(unseal(sealed, self.plane.signer.verifier))

    def by_token(self, user="usr_dev", session="ses_1"):
        token = self.plane.token(user, session, now=datetime.now(UTC))
        return self.edge.authenticate(f"Bearer {token}".encode(), None)

    def by_key(self, secret=KEY):
        return self.edge.authenticate(None, secret.encode())


@pytest.fixture
def desk(plane: Plane) -> Desk:
    desk = Desk(plane)
    desk.take(plane.grants())
    revision = Revision(number=1, format="onnx", uri="x", sha256="0" * 64, size_bytes=1, signature=SIGNATURE)
    desk.take(plane.endpoint("p.m", revision))
    return desk


SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    "labels": None,
}


def test_a_token_dies_with_its_session_its_user_and_its_time(desk):
    token = f"Bearer {desk.plane.token(session_id='ses_1')}".encode()
    assert desk.edge.authenticate(token, None).id == "usr_dev"
    desk.take(desk.plane.revoke(sessions={"ses_1": NOW + timedelta(hours=1)}))
    with pytest.raises(CredentialRefused):
        desk.edge.authenticate(token, None)
    desk.take(desk.plane.revoke(users=["usr_dev"]))
    with pytest.raises(CredentialRefused):
        desk.by_token(session="ses_2")
    desk.take(desk.plane.revoke())
    assert desk.edge.authenticate(token, None).id == "usr_dev"
    desk.now = datetime.now(UTC) + timedelta(seconds=desk.plane.settings.auth.access_token_ttl_s + 1)
    with pytest.raises(CredentialRefused):
        desk.edge.authenticate(token, None)


def test_a_key_of_one_endpoint_opens_no_other(desk):
    grant = KeyGrant(id="key_1", permissions={"endpoint:invoke"}, endpoint="p.m")
    desk.take(desk.plane.grants(keys={KEY: grant}))
    assert desk.edge.authorize(desk.by_key(), "p.m").project_id == "prj_1"
    desk.take(desk.plane.grants(keys={KEY: grant.model_copy(update={"endpoint": "p.m.staging"})}))
    with pytest.raises(EndpointNotFound):
        desk.edge.authorize(desk.by_key(), "p.m")


def test_a_key_dies_at_its_time_and_when_it_is_no_longer_granted(desk):
    desk.take(desk.plane.grants(keys={KEY: KeyGrant(id="key_1", permissions={"*"}, expires_at=NOW)}))
    desk.now = NOW - timedelta(seconds=1)
    assert desk.by_key().id == "key_1"
    desk.now = NOW
    with pytest.raises(CredentialRefused):
        desk.by_key()
    desk.take(desk.plane.grants(keys={}))
    desk.now = NOW - timedelta(seconds=1)
    with pytest.raises(CredentialRefused):
        desk.by_key()


def test_a_removed_member_is_a_stranger(desk):
    caller = desk.by_token()
    assert desk.edge.authorize(caller, "p.m").name == "p.m"
    desk.take(desk.plane.grants(members={"usr_dev": {"deployment:read"}}))
    with pytest.raises(PermissionDenied):
        desk.edge.authorize(caller, "p.m")
    desk.take(desk.plane.grants(members={}))
    with pytest.raises(EndpointNotFound):
        desk.edge.authorize(caller, "p.m")


def test_a_project_without_grants_admits_nobody(desk):
    desk.take(desk.plane.bury("grants", "prj_1"))
    with pytest.raises(EndpointNotFound):
        desk.edge.authorize(desk.by_token(), "p.m")
    with pytest.raises(CredentialRefused):
        desk.by_key()


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Basic x", b"Digest rm_x"])
def test_what_is_no_bearer_credential_is_none(desk, header):
    with pytest.raises((CredentialMissing, CredentialRefused)):
        desk.edge.authenticate(header, None)


def test_a_token_of_another_platform_is_refused(desk, tmp_path):
    token = Plane(tmp_path / "other").token()
    with pytest.raises(CredentialRefused):
        desk.edge.authenticate(f"Bearer {token}".encode(), None)


def test_an_older_document_changes_nothing(desk):
    endpoint = desk.directory.endpoints["p.m"]
    older = endpoint.document.model_copy(update={"version": 1})
    assert not desk.directory.apply(older)
    assert not desk.directory.apply(Tombstone(kind="endpoint", key="p.m", version=1))
    assert desk.directory.endpoints["p.m"] is endpoint
    assert desk.directory.apply(Tombstone(kind="endpoint", key="p.m", version=9))
    assert not desk.directory.apply(endpoint.document.model_copy(update={"version": 8}))
    assert "p.m" not in desk.directory.endpoints


def test_grants_of_one_project_leave_those_of_another_alone(desk):
    other = ProjectGrants(
        project_id="prj_2", version=50, keys={hash_secret("rm_2"): KeyGrant(id="key_9", permissions={"*"})}
    )
    desk.directory.apply(other)
    desk.take(desk.plane.grants(keys={}))
    assert desk.by_key("rm_2").id == "key_9"


def test_revocations_read_back_what_was_published(desk):
    sealed = desk.plane.revoke(sessions={"ses_1": NOW}, users=["usr_2"])
    document = unseal(sealed, desk.plane.signer.verifier)
    assert document == Revocations(version=sealed.version, sessions={"ses_1": NOW}, users={"usr_2"})


@pytest.mark.parametrize("traffic", [{1: 99}, {1: 50, 2: 50}, {1: 150, 2: -50}, {1: 0}])
def test_traffic_that_does_not_add_up_is_refused(traffic):
    revision = {"number": 1, "format": "onnx", "uri": "x", "sha256": "0" * 64, "size_bytes": 1, "signature": SIGNATURE}
    with pytest.raises(ValueError, match="traffic"):
        EndpointDocument(key="p.m", version=1, endpoint_id="d", project_id="p", revisions=[revision], traffic=traffic)


def open_to(desk: Desk, policy: str, keys: list[str] | None = None) -> None:
    """Publish the endpoint again, with another access policy."""
    document = desk.directory.endpoints["p.m"].document
    access = AccessPolicy(policy=policy, keys=keys)
    desk.take(desk.plane.endpoint("p.m", *document.revisions, access=access))


def status(desk: Desk, headers: dict[bytes, bytes], address: str = "192.0.2.1") -> int:
    """Return the status that an invocation with these headers would be answered with."""
    try:
        desk.edge.admit(headers, "p.m", address)
    except RaymillError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("policy", "keys", "statuses"),
    [
        # A member, a member without the right, a stranger's login, a key, a weak key, a stranger's key, nobody.
        ("project", None, [200, 403, 404, 200, 403, 404, 401]),
        ("authenticated", None, [200, 200, 200, 200, 200, 200, 401]),
        ("public", None, [200, 200, 200, 200, 200, 200, 200]),
        ("keys", None, [403, 403, 404, 200, 403, 404, 401]),
        ("keys", ["key_1"], [403, 403, 404, 200, 403, 404, 401]),
        ("keys", ["key_7"], [403, 403, 404, 403, 403, 404, 401]),
    ],
)
def test_the_policy_decides_who_may_invoke(desk, policy, keys, statuses):
    desk.take(desk.plane.grants("prj_2", members={}, keys={FOREIGN_KEY: KeyGrant(id="key_9", permissions={"*"})}))
    open_to(desk, policy, keys)
    logins = [{b"authorization": f"Bearer {desk.plane.token(user)}".encode()} for user in PEOPLE]
    keys = [{b"x-api-key": key.encode()} for key in (KEY, VIEWER_KEY, FOREIGN_KEY)]
    assert [status(desk, headers) for headers in [*logins, *keys, {}]] == statuses
    assert status(desk, {b"authorization": b"Bearer rm_unknown"}) == 401
    assert status(desk, {b"x-api-key": b""}) == 401


PEOPLE = ("usr_dev", "usr_viewer", "usr_stranger")


def test_an_administrator_may_invoke_everywhere_until_demoted(desk):
    caller = desk.by_token("usr_admin")
    with pytest.raises(EndpointNotFound):
        desk.edge.authorize(caller, "p.m")
    desk.take(desk.plane.publish(Administrators(version=1, users={"usr_admin", "usr_viewer"})))
    assert desk.edge.authorize(caller, "p.m").name == "p.m"
    assert desk.edge.authorize(desk.by_token("usr_viewer"), "p.m").name == "p.m"
    desk.take(desk.plane.publish(Administrators(version=2)))
    with pytest.raises(EndpointNotFound):
        desk.edge.authorize(caller, "p.m")


def test_strangers_are_counted_by_address_and_the_known_are_not(desk):
    seconds = [130.5]
    desk.edge = Edge(desk.directory, desk.plane.signer.verifier, now=lambda: seconds[0], strangers_per_minute=3)
    open_to(desk, "public")
    assert [status(desk, {}) for _ in range(5)] == [200, 200, 200, 429, 429]
    assert [status(desk, {b"x-api-key": KEY.encode()}) for _ in range(5)] == [200] * 5
    assert [status(desk, {}, f"2001:db8:1:2::{n}") for n in range(5)] == [200, 200, 200, 429, 429]
    assert status(desk, {}, "2001:db8:1:3::1") == 200
    with pytest.raises(TooManyStrangers) as refusal:
        desk.edge.admit({}, "p.m", "192.0.2.1")
    assert refusal.value.headers == {"Retry-After": "50"}
    seconds[0] = 180.0
    assert status(desk, {}) == 200


def test_strangers_learn_of_no_endpoint_that_is_not_public(desk):
    for name in ("p.m", "p.nothing"):
        with pytest.raises(CredentialMissing):
            desk.edge.admit({}, name, "192.0.2.1")
