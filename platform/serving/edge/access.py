"""Who is asking, and may they: decided in memory by the process that answers.

The verifier remembers whose signature it has checked; whether the session, the membership or the key still lives is
looked up in the directory for every request.
"""

import time
from collections.abc import Callable, Mapping
from hashlib import sha256

from ...kernel.errors import AuthenticationFailed, PermissionDenied, RaymillError
from ...kernel.security import TokenVerifier
from ..errors import CredentialMissing, CredentialRefused, EndpointNotFound, KeyNotAdmitted
from ..published.directory import Directory, Endpoint
from ..published.grants import INVOKE
from ..published.key_table import KnownKey
from .strangers import Strangers

_KEY_PREFIX = b"rm_"


class Caller:
    """Who asks: a user by an access token, an API key, or nobody known."""

    __slots__ = ("id", "key")

    def __init__(self, id: str, key: KnownKey | None = None) -> None:
        self.id = id
        self.key = key


#: Whoever asks a public endpoint without a credential.
STRANGER = Caller("anonymous")


class Edge:
    """Authentication and authorisation of one model server."""

    def __init__(
        self,
        directory: Directory,
        verifier: TokenVerifier,
        *,
        now: Callable[[], float] = time.time,
        strangers_per_minute: int = 600,
    ) -> None:
        self._directory = directory
        self._verifier = verifier
        self._now = now
        self._strangers = Strangers(strangers_per_minute, now=now) if strangers_per_minute else None

    def admit(self, headers: Mapping[bytes, bytes], name: str, address: str) -> tuple[Caller, Endpoint]:
        """Return who asks, and the endpoint that it may invoke.

        Raises:
            AuthenticationFailed: If the credential is refused, or there is none and the endpoint is not public.
            NotFound: If there is no such endpoint for this caller.
            PermissionDenied: If the caller may not invoke it.
            RateLimited: If too many came from the address without a credential.
        """
        authorization, api_key = headers.get(b"authorization"), headers.get(b"x-api-key")
        if authorization is None and api_key is None:
            return STRANGER, self._admit_stranger(name, address)
        caller = self.authenticate(authorization, api_key)
        return caller, self.authorize(caller, name)

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
            PermissionDenied: If the principal is part of the project and lacks the permission, or the endpoint takes
                keys alone and the credential is none of them.
        """
        endpoint = self._directory.endpoints.get(name)
        if endpoint is None:
            raise EndpointNotFound(name)
        if self.may_invoke(caller, endpoint):
            return endpoint
        raise self._refusal(caller, endpoint)

    def may_invoke(self, caller: Caller, endpoint: Endpoint) -> bool:
        """Tell whether the principal may invoke the endpoint."""
        key = caller.key
        if key is not None and key.endpoint is not None and key.endpoint != endpoint.name:
            return False
        return endpoint.is_open or (self._rights(caller, endpoint.project_id) is True and endpoint.admits(key))

    def _refusal(self, caller: Caller, endpoint: Endpoint) -> RaymillError:
        """Return why the principal may not invoke the endpoint, or that there is none where it must not learn of it."""
        may_invoke = self._rights(caller, endpoint.project_id)
        if may_invoke is None or (caller.key is not None and caller.key.endpoint not in (None, endpoint.name)):
            return EndpointNotFound(endpoint.name)
        if may_invoke:
            return KeyNotAdmitted(endpoint.name)
        return PermissionDenied(
            f"This needs the permission {INVOKE} in the endpoint's project.", details={"permission": INVOKE}
        )

    def _admit_stranger(self, name: str, address: str) -> Endpoint:
        endpoint = self._directory.endpoints.get(name)
        if endpoint is None or not endpoint.is_public:
            raise CredentialMissing
        if self._strangers is not None:
            self._strangers.admit(address)
        return endpoint

    def _rights(self, caller: Caller, project_id: str) -> bool | None:
        """Tell whether the principal may invoke; None means that it must not learn of the endpoint."""
        if (key := caller.key) is not None:
            return key.may_invoke if key.project_id == project_id else None
        members = self._directory.members.get(project_id)
        may_invoke = members.get(caller.id) if members is not None else None
        return True if caller.id in self._directory.administrators else may_invoke

    def _by_key(self, secret: bytes) -> Caller:
        key = self._directory.keys.get(sha256(secret.strip()).digest())
        if key is None or (key.expires_at is not None and key.expires_at <= self._now()):
            raise CredentialRefused
        return Caller(key.id, key)

    def _by_token(self, token: bytes) -> Caller:
        try:
            claims = self._verifier.claims(token.decode("ascii").strip())
        except (AuthenticationFailed, UnicodeDecodeError) as error:
            raise CredentialRefused from error
        if claims.expires_at <= self._now():
            raise CredentialRefused
        if claims.session_id in self._directory.revoked_sessions or claims.user_id in self._directory.disabled_users:
            raise CredentialRefused
        return Caller(claims.user_id)
