"""The kept login and its renewal."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from raymill.kernel.errors import ErrorType, error_body
from raymill.sdk import AuthenticationFailed, Client
from raymill.sdk.credentials import StoredCredential, forget, load, save

USER = {"id": "usr_1", "email": "a@example.com", "name": "A", "role": "developer", "created_at": "2026-01-01T00:00:00Z"}


class Platform:
    """Accepts one access token and one refresh token, each refresh token once."""

    def __init__(self) -> None:
        self.access, self.refresh, self.renewals = "access-1", "refresh-0", 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/auth/refresh":
            return self._renew(request)
        if request.headers["Authorization"] != f"Bearer {self.access}":
            return self._refuse()
        return httpx.Response(200, json=USER)

    def _renew(self, request: httpx.Request) -> httpx.Response:
        if self.refresh not in request.read().decode():
            return self._refuse()
        self.renewals += 1
        self.access, self.refresh = f"access-{self.renewals + 1}", f"refresh-{self.renewals}"
        return httpx.Response(200, json={"access_token": self.access, "refresh_token": self.refresh})

    def _refuse(self) -> httpx.Response:
        return httpx.Response(401, json=error_body(ErrorType.AUTHENTICATION_ERROR, "no", request_id="req_1"))


def client(home: Path, platform: Platform) -> Client:
    return Client("http://raymill", credential=StoredCredential(home), transport=httpx.MockTransport(platform))


def test_a_login_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    save(home, "http://raymill", "access", "refresh")
    assert load(home).model_dump() == {
        "base_url": "http://raymill",
        "access_token": "access",
        "refresh_token": "refresh",
    }
    assert [path.stat().st_mode & 0o777 for path in home.iterdir()] == [0o600]
    assert Client.from_home(home).base_url == "http://raymill"
    forget(home)
    with pytest.raises(AuthenticationFailed, match="raymill login"):
        load(home)


def test_a_spoilt_file_is_no_login(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(AuthenticationFailed):
        load(tmp_path)


def test_a_login_that_ran_out_is_renewed_and_kept(tmp_path: Path) -> None:
    platform = Platform()
    save(tmp_path, "http://raymill", "access-0", "refresh-0")
    assert client(tmp_path, platform).auth.me().id == "usr_1"
    assert (load(tmp_path).access_token, load(tmp_path).refresh_token) == ("access-2", "refresh-1")


def test_what_another_process_renewed_is_taken_over(tmp_path: Path) -> None:
    platform = Platform()
    save(tmp_path, "http://raymill", "access-0", "refresh-0")
    mine, other = client(tmp_path, platform), client(tmp_path, platform)
    other.auth.me()
    mine.auth.me()
    assert platform.renewals == 1


def test_a_session_that_ended_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, "http://raymill", "access-0", "refresh-of-yesterday")
    with pytest.raises(AuthenticationFailed):
        client(tmp_path, Platform()).auth.me()


def test_a_fixed_token_is_not_renewed() -> None:
    calls: list[Any] = []
    platform = Platform()

    def count(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return platform(request)

    with pytest.raises(AuthenticationFailed):
        Client("http://raymill", "old", transport=httpx.MockTransport(count)).auth.me()
    assert len(calls) == 1
