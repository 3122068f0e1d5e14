"""Who is asking, and may they: decided in memory by the process that answers.

Checking an Ed25519 signature costs as much as the rest of a request, so verified tokens are remembered until they
expire. What may change meanwhile (revocations, memberships, keys) is looked up in the directory for every request.
"""

import time
from collections.abc import Callable
from hashlib import sha256

from ..kernel.errors import AuthenticationFailed, PermissionDenied
from ..kernel.security import TokenVerifier
from .directory import Directory, Endpoint, KnownKey
from .errors import CredentialMissing, CredentialRefused, EndpointNotFound
from .grants import INVOKE

_KEY_PREFIX = b"rm_"


class Caller:
    """An authenticated principal: a user by an access token, or an API key."""

    __slots__ = ("expires_at", "id", "key", "session_id")

    def __init__(self, id: str, session_id: str, expires_at: float, key: KnownKey | None = None) -> None:
        self.id = id
        self.session_id = session_id
        self.expires_at = expires_at
        self.key = key


class Edge:
    """Authentication and authorisation of one model server."""

    def __init__(
        self,
        directory: Directory,
        verifier: TokenVerifier,
        *,
        now: Callable[[], float] = time.time,
        max_remembered: int = 10_000,
    ) -> None:
        self._directory = directory
        self._verifier = verifier
        self._now = now
        self._max_remembered = max_remembered
        self._verified: dict[bytes, Caller] = {}

    def authenticate(self, authorization: bytes | None, api_key: bytes | None) -> Caller:
        """Return the principal behind the request's credential headers.

        Raises:
            CredentialMissing: If there is none.
            CredentialRefused: If it is unknown, expired or revoked.
        """
        if authorization is None:
            if api_key is None:
                raise CredentialMissing
            return self._by_key(api_key)
        scheme, _, credential = authorization.partition(b" ")
        if scheme != b"Bearer" and scheme.lower() != b"bearer":
            raise CredentialMissing
        if credential.startswith(_KEY_PREFIX):
            return self._by_key(credential)
        return self._by_token(credential)

    def authorize(self, caller: Caller, name: str) -> Endpoint:
        """Return the endpoint when the principal may invoke it.

        Raises:
            EndpointNotFound: If it does not exist, or belongs to a project that the principal has no part in.
            PermissionDenied: If the principal is part of the project and lacks the permission.
        """
        endpoint = self._directory.endpoints.get(name)
        if endpoint is None:
            raise EndpointNotFound(name)
        may_invoke = self._rights(caller, name, endpoint.project_id)
        if may_invoke is None:
            raise EndpointNotFound(name)
        if not may_invoke:
            raise PermissionDenied(
                f"This needs the permission {INVOKE} in the endpoint's project.", details={"permission": INVOKE}
            )
        return endpoint

    def _rights(self, caller: Caller, name: str, project_id: str) -> bool | None:
        """Tell whether the principal may invoke; None means that it must not learn of the endpoint."""
        if (key := caller.key) is not None:
            is_meant = key.project_id == project_id and key.endpoint in (None, name)
            return key.may_invoke if is_meant else None
        members = self._directory.members.get(project_id)
        return None if members is None else members.get(caller.id)

    def _by_key(self, secret: bytes) -> Caller:
        key = self._directory.keys.get(sha256(secret.strip()).hexdigest())
        if key is None or (key.expires_at is not None and key.expires_at <= self._now()):
            raise CredentialRefused
        return Caller(key.id, "", 0.0, key)

    def _by_token(self, token: bytes) -> Caller:
        caller = self._verified.get(token) or self._verify(token)
        if caller.expires_at <= self._now():
            self._verified.pop(token, None)
            raise CredentialRefused
        if caller.session_id in self._directory.revoked_sessions or caller.id in self._directory.disabled_users:
            raise CredentialRefused
        return caller

    def _verify(self, token: bytes) -> Caller:
        try:
            claims = self._verifier.claims(token.decode("ascii").strip())
        except (AuthenticationFailed, UnicodeDecodeError) as error:
            raise CredentialRefused from error
        caller = Caller(claims.user_id, claims.session_id, claims.expires_at)
        if len(self._verified) >= self._max_remembered:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = caller
        return caller
