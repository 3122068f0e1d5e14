"""Cryptographic primitives: passwords, signing keys, access tokens, API keys, signed documents.

Passwords are hashed with argon2id (RFC 9106). Tokens and documents are signed with Ed25519 (RFC 8032, RFC 8037).
"""

import fcntl
import os
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from .errors import AuthenticationFailed, InternalError
from .settings import AuthSettings

_PRIVATE, _PUBLIC = "signing.pem", "public.pem"
_MAKE_THEM = "make the keys with 'raymill keys make', and let RAYMILL_KEYS_DIR name their folder."

_passwords = PasswordHasher()
# Verified when the account does not exist, so that both refusals take the same time.
_NO_ACCOUNT = _passwords.hash(secrets.token_hex())


def hash_password(password: str) -> str:
    """Hash a password with argon2id."""
    return _passwords.hash(password)


def password_matches(hashed: str | None, password: str) -> bool:
    """Compare a password with its hash; None costs the same time and never matches."""
    try:
        _passwords.verify(hashed or _NO_ACCOUNT, password)
    except VerificationError:
        return False
    return hashed is not None


def new_secret(prefix: str) -> str:
    """Make an opaque credential of 256 random bits, such as ``rm_…``."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def hash_secret(secret: str) -> str:
    """Hash an opaque credential for storage; it is random, so a plain SHA-256 suffices."""
    return sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class TokenClaims:
    """What an access token says: who, in which session, until when. Never what they may do."""

    user_id: str
    session_id: str
    expires_at: float


class TokenVerifier:
    """Checks access tokens and signed documents with the public key alone."""

    def __init__(self, public_key: Ed25519PublicKey, settings: AuthSettings) -> None:
        self._public_key = public_key
        self._settings = settings

    def claims(self, token: str) -> TokenClaims:
        """Return the claims of a valid token.

        Raises:
            AuthenticationFailed: If the signature, issuer, audience or expiry is wrong.
        """
        try:
            body = jwt.decode(
                token,
                self._public_key,
                algorithms=["EdDSA"],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                options={"require": ["exp", "iss", "aud", "sub", "sid"]},
            )
        except jwt.PyJWTError as error:
            raise AuthenticationFailed("The access token is not valid or has expired; log in again.") from error
        return TokenClaims(user_id=body["sub"], session_id=body["sid"], expires_at=float(body["exp"]))

    def document_is_authentic(self, document: bytes, signature: bytes) -> bool:
        """Tell whether ``signature`` over ``document`` was made with the platform's key."""
        try:
            self._public_key.verify(signature, document)
        except InvalidSignature:
            return False
        return True

    def jwks(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key Set."""
        raw = self._public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        key = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": _base64(raw)}
        return {"keys": [{**key, "kid": sha256(raw).hexdigest()[:16]}]}


class TokenSigner:
    """Makes access tokens and signs documents; lives in the control plane only."""

    def __init__(self, private_key: Ed25519PrivateKey, settings: AuthSettings) -> None:
        self._private_key = private_key
        self._settings = settings
        self.verifier = TokenVerifier(private_key.public_key(), settings)

    def access_token(self, *, user_id: str, session_id: str, now: datetime) -> str:
        """Sign an access token for this user and session."""
        body = {
            "iss": self._settings.issuer,
            "aud": self._settings.audience,
            "sub": user_id,
            "sid": session_id,
            "iat": now,
            "exp": now + timedelta(seconds=self._settings.access_token_ttl_s),
        }
        return jwt.encode(body, self._private_key, algorithm="EdDSA")

    def sign_document(self, document: bytes) -> bytes:
        """Sign a routing-table or grants document; 64 bytes."""
        return self._private_key.sign(document)


def make_keys(folder: Path) -> None:
    """Make the signing key pair of a new platform, private part 0600; an existing pair stays.

    Processes that start at once make one pair between them, and none of them sees half of it.
    """
    if (folder / _PRIVATE).exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _PRIVATE).exists():
            return
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        # The private part comes last: where it is, the pair is whole.
        _write(folder / _PUBLIC, public, mode=0o644)
        _write(folder / _PRIVATE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)


def public_key_digest(folder: Path) -> str | None:
    """Return a digest by which two folders' keys can be compared; None when there is no public key."""
    try:
        return sha256((folder / _PUBLIC).read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def load_signer(folder: Path, settings: AuthSettings) -> TokenSigner:
    """Read the signing key.

    Raises:
        InternalError: If there is none.
    """
    try:
        key = load_pem_private_key((folder / _PRIVATE).read_bytes(), password=None)
    except FileNotFoundError as error:
        raise InternalError(f"There is no signing key in {folder}: {_MAKE_THEM}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InternalError(f"The signing key in {folder} is not an Ed25519 key.")
    return TokenSigner(key, settings)


def load_verifier(folder: Path, settings: AuthSettings) -> TokenVerifier:
    """Read the public key alone, for processes that must not sign.

    Raises:
        InternalError: If there is none.
    """
    try:
        key = load_pem_public_key((folder / _PUBLIC).read_bytes())
    except FileNotFoundError as error:
        raise InternalError(f"There is no public key in {folder}: {_MAKE_THEM}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InternalError(f"The public key in {folder} is not an Ed25519 key.")
    return TokenVerifier(key, settings)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    draft.replace(path)


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
