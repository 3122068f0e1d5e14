"""Cryptographic primitives: passwords, signing keys, access tokens, API keys, signed documents.

Passwords are hashed with argon2id (RFC 9106). Tokens and documents are signed with Ed25519 (RFC 8032, RFC 8037).
"""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .errors import AuthenticationFailed
from .keyfiles import key_id, watch_private_key, watch_public_keys
from .settings import AuthSettings
from .tokens import TokenClaims, VerifiedTokens

_passwords = PasswordHasher()
# Verified when the account does not exist, so that both refusals take the same time. Written down and not made: a hash
# takes 64 MiB and 50 ms, in each process that imports this.
_NO_ACCOUNT = (
    f"$argon2id$v=19$m={_passwords.memory_cost},t={_passwords.time_cost},p={_passwords.parallelism}"
    f"${'A' * 22}${'A' * 43}"
)


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


class PrivateKey(Protocol):
    """Where a signer finds the present private key."""

    def get(self) -> Ed25519PrivateKey:
        """Return the key."""
        ...


class PublicKeys(Protocol):
    """Where a verifier finds the keys that it believes, the present one first."""

    def get(self, *, now: bool = False) -> dict[str, Ed25519PublicKey]:
        """Return the keys by their ids, the same object until they change; ``now`` looks for new ones first."""
        ...


class TokenVerifier:
    """Checks access tokens and signed documents with the present and the previous public key alone.

    A signature costs as much as the rest of a prediction, so what was verified is remembered. Whether the session
    behind a token still lives is for the caller to ask, at every request.
    """

    def __init__(self, keys: PublicKeys, settings: AuthSettings) -> None:
        self._keys = keys
        self._settings = settings
        self._verified = VerifiedTokens(settings.remembered_tokens)

    def claims(self, token: str) -> TokenClaims:
        """Return the claims of a valid token; safe for threads.

        Raises:
            AuthenticationFailed: If the signature, issuer, audience or expiry is wrong.
        """
        keys, digest = self._keys.get(), sha256(token.encode()).digest()
        claims = self._verified.find(digest, keys)
        if claims is None:
            claims = self._verify(token)
            self._verified.keep(digest, claims, keys)
        return claims

    def _verify(self, token: str) -> TokenClaims:
        try:
            body = jwt.decode(
                token,
                self._key_of(token),
                algorithms=["EdDSA"],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                options={"require": ["exp", "iss", "aud", "sub", "sid"]},
            )
        except jwt.PyJWTError as error:
            raise AuthenticationFailed("The access token is not valid or has expired; log in again.") from error
        return TokenClaims(user_id=body["sub"], session_id=body["sid"], expires_at=float(body["exp"]))

    def document_is_authentic(self, document: bytes, signature: bytes) -> bool:
        """Tell whether ``signature`` over ``document`` was made with one of the platform's keys."""
        return any(_verifies(key, signature, document) for key in self._all_keys())

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JSON Web Key Set, the present one first."""
        return {"keys": [_jwk(kid, key) for kid, key in self._keys.get(now=True).items()]}

    def _key_of(self, token: str) -> Ed25519PublicKey:
        kid = jwt.get_unverified_header(token).get("kid")
        keys = self._keys.get()
        if kid is None:
            return next(iter(keys.values()))
        key = keys.get(kid) or self._keys.get(now=True).get(kid)
        if key is None:
            raise jwt.InvalidKeyError(kid)
        return key

    def _all_keys(self) -> Iterator[Ed25519PublicKey]:
        known = self._keys.get()
        yield from known.values()
        yield from (key for kid, key in self._keys.get(now=True).items() if kid not in known)


class TokenSigner:
    """Makes access tokens and signs documents; lives in the control plane only."""

    def __init__(self, private_key: PrivateKey, public_keys: PublicKeys, settings: AuthSettings) -> None:
        self._private_key = private_key
        self._settings = settings
        self.verifier = TokenVerifier(public_keys, settings)

    @property
    def key_id(self) -> str:
        """The id of the key that signs at present."""
        return key_id(self._private_key.get().public_key())

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
        key = self._private_key.get()
        return jwt.encode(body, key, algorithm="EdDSA", headers={"kid": key_id(key.public_key())})

    def sign_document(self, document: bytes) -> bytes:
        """Sign a routing-table or grants document; 64 bytes."""
        return self._private_key.get().sign(document)


def load_signer(folder: Path, settings: AuthSettings) -> TokenSigner:
    """Read the signing key, and follow its rotations.

    Raises:
        InternalError: If there is none.
    """
    return TokenSigner(watch_private_key(folder), watch_public_keys(folder), settings)


def load_verifier(folder: Path, settings: AuthSettings) -> TokenVerifier:
    """Read the public keys alone, for processes that must not sign, and follow their rotations.

    Raises:
        InternalError: If there is none.
    """
    return TokenVerifier(watch_public_keys(folder), settings)


def _verifies(key: Ed25519PublicKey, signature: bytes, document: bytes) -> bool:
    try:
        key.verify(signature, document)
    except InvalidSignature:
        return False
    return True


def _jwk(kid: str, key: Ed25519PublicKey) -> dict[str, str]:
    raw = urlsafe_b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": raw, "kid": kid}
