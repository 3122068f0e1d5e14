"""Accounts, keys and their administration through the client library."""

import pytest
from sqlalchemy import update

from factories import PASSWORD
from raymill.auth.models import User
from raymill.kernel.resources import Resources
from raymill.sdk import AuthenticationFailed, Client, PermissionDenied, ValidationFailed

pytestmark = pytest.mark.integration


@pytest.fixture
def admin(resources: Resources, member: Client) -> Client:
    """Return the member's client with the rights of an administrator."""
    with resources.session() as session:
        session.execute(update(User).values(role="admin"))
    return member


def test_people_change_their_own_account(platform_url: str, member: Client) -> None:
    assert member.auth.update_me(preferences={"theme": "dark"}).preferences == {"theme": "dark"}
    assert member.auth.me().name == "Ann"
    assert member.auth.whoami().kind == "user"
    with pytest.raises(ValidationFailed, match="common"):
        member.auth.change_password(current=PASSWORD, new="password1234")
    member.auth.change_password(current=PASSWORD, new="violet otters swim")
    member.auth.logout_all()
    with pytest.raises(AuthenticationFailed):
        member.auth.me()


def test_administrators_invite_disable_and_delete(platform_url: str, admin: Client) -> None:
    token = admin.users.invite("dora@example.com", role="viewer").token
    assert [waiting.email for waiting in admin.users.invitations()] == ["dora@example.com"]
    with Client(platform_url) as stranger:
        login = stranger.auth.register(email="dora@example.com", name="Dora", password=PASSWORD, invitation=token)
    dora = login.user.id
    with Client(platform_url, login.access_token) as client, pytest.raises(PermissionDenied, match="user:admin"):
        list(client.users.list())
    assert {account.name for account in admin.users.list()} == {"Ann", "Dora"}
    assert admin.users.assign_role(dora, "developer").role == "developer"
    assert admin.users.disable(dora).disabled_at is not None
    assert admin.users.enable(dora).disabled_at is None
    admin.users.delete(dora)
    assert [account.name for account in admin.users.list()] == ["Ann"]
    admin.users.withdraw(admin.users.invite("dora@example.com").id)
    assert list(admin.users.invitations()) == []


def test_keys_rotate_and_are_bound_to_an_endpoint(platform_url: str, member: Client) -> None:
    project = member.projects.from_name("mine", create_if_missing=True)
    old = member.api_keys.create(project_id=project.id, name="ci")
    new = member.api_keys.rotate(old.id)
    with Client(platform_url, api_key=new.key) as machine:
        assert machine.auth.whoami().id == new.id
    with Client(platform_url, api_key=old.key) as machine, pytest.raises(AuthenticationFailed):
        machine.auth.whoami()
    narrow = member.api_keys.create(
        project_id=project.id, name="caller", permissions=["endpoint:invoke"], endpoint="mine.digits"
    )
    assert narrow.endpoint == "mine.digits"


def test_a_service_account_acts_through_its_key(platform_url: str, member: Client) -> None:
    project = member.projects.from_name("mine", create_if_missing=True)
    robot = member.service_accounts.create(project.id, "robot", role="developer")
    assert list(member.service_accounts.list(project.id)) == [robot]
    key = member.api_keys.create(project_id=project.id, name="ci", service_account_id=robot.id)
    with Client(platform_url, api_key=key.key) as machine:
        assert machine.auth.whoami().user_id == robot.id
        member.service_accounts.delete(project.id, robot.id)
        with pytest.raises(AuthenticationFailed):
            machine.auth.whoami()
