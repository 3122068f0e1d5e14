"""The login that ``raymill login`` keeps below a home folder, and how it is renewed.

Refresh tokens work once; using one twice ends the session. Processes that share a login therefore renew it under a
file lock, and take over what another one renewed meanwhile.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from .errors import AuthenticationFailed
from .transport import Refresh

_FILE = "credentials.json"


class Credentials(BaseModel):
    """A login: where, and with which tokens."""

    base_url: str
    access_token: str
    refresh_token: str


def save(home: Path, base_url: str, access_token: str, refresh_token: str) -> None:
    """Keep a login in ``home/credentials.json``, readable by its owner alone."""
    login = Credentials(base_url=base_url, access_token=access_token, refresh_token=refresh_token)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = home / f".{_FILE}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(login.model_dump(), file)
    temporary.replace(home / _FILE)


def load(home: Path) -> Credentials:
    """Read the login that was kept.

    Raises:
        AuthenticationFailed: If there is none.
    """
    try:
        return Credentials.model_validate_json((home / _FILE).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise AuthenticationFailed(f"There is no login in {home}; run 'raymill login'.") from error


def forget(home: Path) -> None:
    """Remove the login."""
    (home / _FILE).unlink(missing_ok=True)


class StoredCredential:
    """The kept login as a client uses it: renewed when its access token has run out."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._login = load(home)

    @property
    def base_url(self) -> str:
        """URL of the platform that the login belongs to."""
        return self._login.base_url

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the login."""
        return {"Authorization": f"Bearer {self._login.access_token}"}

    def renew(self, refresh: Refresh, refused: dict[str, str]) -> bool:
        """Take over a newer login of another process, or exchange the refresh token."""
        with _locked(self._home):
            self._login = load(self._home)
            if self.headers() != refused:
                return True
            tokens = refresh(self._login.refresh_token)
            save(self._home, self._login.base_url, tokens["access_token"], tokens["refresh_token"])
            self._login = load(self._home)
        return True


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / f".{_FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
