"""Envelope encryption: each value has a data key of its own, and a master key wraps that.

Both steps are AES-256-GCM (NIST SP 800-38D) with random 96-bit nonces. The master keys lie in ``master.keys`` in the
folder of the signing keys: a line ``<id> <key in base64>`` for each, the last of which wraps what is new. A new line
rotates the key; what an earlier one wrapped is wrapped again without touching the values.
"""

import os
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import InternalError
from .private_files import locked, write_whole

_FILE = "master.keys"
_NONCE = 12


class MasterKeyMissing(InternalError):
    """Raised when the key that is needed is not in the folder of the keys."""


@dataclass(frozen=True)
class Envelope:
    """A sealed value, its wrapped data key, and the id of the master key that wrapped it."""

    key_id: str
    wrapped_key: bytes
    sealed: bytes


class MasterKeys:
    """The keys that wrap data keys; the last one is current."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = keys
        self.current = next(reversed(keys))

    @classmethod
    def load(cls, folder: Path) -> "MasterKeys":
        """Read the keys.

        Raises:
            MasterKeyMissing: If there are none.
        """
        try:
            lines = (folder / _FILE).read_text().split("\n")
        except FileNotFoundError as error:
            raise MasterKeyMissing(
                f"There is no {_FILE} in the folder of the signing keys: make it with 'raymill keys make'."
            ) from error
        return cls({id_: b64decode(key) for id_, key in (line.split() for line in lines if line.strip())})

    def seal(self, value: bytes, *, about: str) -> Envelope:
        """Encrypt a value; ``about`` says what it is for, and only who says the same can open it."""
        data_key = AESGCM.generate_key(256)
        wrapped = _encrypt(self._keys[self.current], data_key, about)
        return Envelope(key_id=self.current, wrapped_key=wrapped, sealed=_encrypt(data_key, value, about))

    def open(self, envelope: Envelope, *, about: str) -> bytes:
        """Decrypt a value.

        Raises:
            MasterKeyMissing: If the master key is not there any more.
            InternalError: If the value was changed or is about something else.
        """
        return _decrypt(self._data_key(envelope, about), envelope.sealed, about)

    def rewrap(self, envelope: Envelope, *, about: str) -> Envelope:
        """Return the same value under the current master key."""
        wrapped = _encrypt(self._keys[self.current], self._data_key(envelope, about), about)
        return replace(envelope, key_id=self.current, wrapped_key=wrapped)

    def _data_key(self, envelope: Envelope, about: str) -> bytes:
        if envelope.key_id not in self._keys:
            raise MasterKeyMissing(f"The master key {envelope.key_id} is not in {_FILE} any more; put it back.")
        return _decrypt(self._keys[envelope.key_id], envelope.wrapped_key, about)


def make_master_key(folder: Path) -> None:
    """Make the first master key, 0600, where there is none; a folder that cannot be written stays as it is."""
    if not (folder / _FILE).exists() and os.access(folder, os.W_OK):
        _add(folder, only_first=True)


def rotate_master_key(folder: Path) -> None:
    """Add a master key that wraps whatever is sealed from now on."""
    _add(folder, only_first=False)


def _add(folder: Path, *, only_first: bool) -> None:
    with locked(folder):
        path = folder / _FILE
        if only_first and path.exists():
            return
        held = path.read_text() if path.exists() else ""
        if held and not held.endswith("\n"):
            held += "\n"
        line = f"{secrets.token_hex(8)} {b64encode(AESGCM.generate_key(256)).decode()}\n"
        write_whole(path, held + line)


def _encrypt(key: bytes, value: bytes, about: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, value, about.encode())


def _decrypt(key: bytes, sealed: bytes, about: str) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], about.encode())
    except InvalidTag as error:
        raise InternalError("A sealed value was changed, or belongs elsewhere.") from error
