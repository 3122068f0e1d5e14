"""The platform's signing keys in their folder: made once, rotated while everything runs.

    signing.pem   the private key, 0600; only the control plane reads it
    public.pem    its public key
    previous.pem  the public key before the last rotation, if there was one

Whoever reads them notices within a second that they are others, so a rotation restarts nothing.
"""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Generic, TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from .envelope import make_master_key
from .errors import InternalError
from .private_files import locked, write_whole

log = structlog.get_logger(__name__)

Read = TypeVar("Read")

_PRIVATE, _PUBLIC, _PREVIOUS = "signing.pem", "public.pem", "previous.pem"
_MAKE_THEM = "make the keys with 'raymill keys make', and let RAYMILL_KEYS_DIR name their folder."


class Watched(Generic[Read]):
    """Something read from files, and read again when they have changed; looked at once a second at most."""

    LOOK_S = 1.0

    def __init__(
        self,
        files: tuple[Path, ...],
        read: Callable[[], Read],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read for the first time; what that raises is the caller's."""
        self._files, self._read, self._monotonic = files, read, monotonic
        self._look_at = monotonic() + self.LOOK_S
        self._state = self._look()
        self._value = read()

    def get(self, *, now: bool = False) -> Read:
        """Return what the files hold, as of a second ago or as of now; the last good reading if they are broken."""
        if now or self._monotonic() >= self._look_at:
            self._look_at = self._monotonic() + self.LOOK_S
            self._follow(self._look())
        return self._value

    def _follow(self, state: tuple[object, ...]) -> None:
        if state == self._state:
            return
        try:
            self._value = self._read()
        except (InternalError, OSError) as error:
            log.warning("keys_not_readable", error=str(error))
        else:
            self._state = state

    def _look(self) -> tuple[object, ...]:
        return tuple(_look(path) for path in self._files)


def watch_private_key(folder: Path) -> Watched[Ed25519PrivateKey]:
    """Follow the private key of a folder.

    Raises:
        InternalError: If there is none.
    """
    return Watched((folder / _PRIVATE,), lambda: _read_private(folder))


def watch_public_keys(folder: Path) -> Watched[dict[str, Ed25519PublicKey]]:
    """Follow the public keys of a folder by their ids, the present one first.

    Raises:
        InternalError: If there is none.
    """
    return Watched((folder / _PUBLIC, folder / _PREVIOUS), lambda: _read_public(folder))


def make_keys(folder: Path) -> None:
    """Make the keys of a new platform: the signing pair, private part 0600, and the master key of secrets.

    What exists stays. Processes that start at once make one pair between them, and none of them sees half of it.
    """
    if not (folder / _PRIVATE).exists():
        with locked(folder):
            if not (folder / _PRIVATE).exists():
                _write_pair(folder)
    make_master_key(folder)


def rotate_keys(folder: Path) -> str:
    """Replace the pair by a new one and return its id; what the old one signed is accepted until the next rotation.

    Raises:
        InternalError: If there is no pair yet.
    """
    with locked(folder):
        old = _read_private(folder).public_key()
        write_whole(folder / _PREVIOUS, _pem(old), mode=0o644)
        return _write_pair(folder)


def public_key_digest(folder: Path) -> str | None:
    """Return a digest by which two folders' keys can be compared; None when there is no public key."""
    try:
        return sha256((folder / _PUBLIC).read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def key_id(key: Ed25519PublicKey) -> str:
    """Return the short name of a public key, which tokens and key sets carry as ``kid``."""
    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _write_pair(folder: Path) -> str:
    key = Ed25519PrivateKey.generate()
    # The private part comes last: what it signs can be verified from the first moment.
    write_whole(folder / _PUBLIC, _pem(key.public_key()), mode=0o644)
    write_whole(folder / _PRIVATE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key_id(key.public_key())


def _read_private(folder: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key((folder / _PRIVATE).read_bytes(), password=None)
    except FileNotFoundError as error:
        raise InternalError(f"There is no signing key in {folder}: {_MAKE_THEM}") from error
    except ValueError as error:
        raise InternalError(f"The signing key in {folder} is not readable.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InternalError(f"The signing key in {folder} is not an Ed25519 key.")
    return key


def _read_public(folder: Path) -> dict[str, Ed25519PublicKey]:
    try:
        found = [load_pem_public_key((folder / _PUBLIC).read_bytes())]
    except FileNotFoundError as error:
        raise InternalError(f"There is no public key in {folder}: {_MAKE_THEM}") from error
    except ValueError as error:
        raise InternalError(f"The public key in {folder} is not readable.") from error
    if (folder / _PREVIOUS).exists():
        found.append(load_pem_public_key((folder / _PREVIOUS).read_bytes()))
    keys = [key for key in found if isinstance(key, Ed25519PublicKey)]
    if len(keys) != len(found):
        raise InternalError(f"A public key in {folder} is not an Ed25519 key.")
    return {key_id(key): key for key in keys}


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
