"""The network side of sign-on: one OpenID Connect provider, asked through Authlib.

Authorization code flow (OpenID Connect Core 1.0, section 3.1) with PKCE (RFC 7636).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from ..kernel.resilience import CircuitBreakerConfig, CircuitOpen, OutsideService, RetryConfig
from ..kernel.settings import SsoProviderSettings
from .errors import ProviderUnavailable, SignOnRefused

_KEPT_S = 3600.0
_LEEWAY_S = 60
# Signatures that only the provider can make; "none" and shared secrets are not among them.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
_RETRY = RetryConfig(max_attempts=2, base_delay=0.1)
_BREAKER = CircuitBreakerConfig(failure_threshold=5, recovery_timeout=30, monitoring_period=120)


@dataclass(frozen=True)
class Identity:
    """Whom a provider vouches for."""

    issuer: str
    subject: str
    email: str
    email_is_verified: bool
    name: str
    groups: frozenset[str]


@dataclass(frozen=True)
class Proof:
    """What ties an answer of the provider to the question: where it was sent, PKCE's verifier and the nonce."""

    redirect_url: str
    verifier: str
    nonce: str


class OidcProvider:
    """A provider, its discovered endpoints and its keys; safe for threads."""

    def __init__(
        self, name: str, settings: SsoProviderSettings, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.settings = settings
        self._service = OutsideService(f"The sign-on provider {name!r}", retry=_RETRY, breaker=_BREAKER)
        self._monotonic = monotonic
        # Reading the authorities' certificates takes longer than many an answer.
        self._authorities = httpx2.create_ssl_context()
        self._documents: dict[str, tuple[float, dict[str, Any]]] = {}

    def authorization_url(self, proof: Proof, state: str) -> str:
        """Return where a person logs in at the provider.

        Raises:
            ProviderUnavailable: If the provider cannot be discovered.
        """
        endpoint = self._endpoint("authorization_endpoint")
        with self._client(proof) as client:
            url, _ = client.create_authorization_url(
                endpoint, state=state, nonce=proof.nonce, code_verifier=proof.verifier
            )
        return str(url)

    def identity(self, code: str, proof: Proof) -> Identity:
        """Exchange the code that came back for the person's identity.

        Raises:
            SignOnRefused: If the provider refuses the code, or its token does not fit the question.
            ProviderUnavailable: If the provider does not answer.
        """
        endpoint = self._endpoint("token_endpoint")
        token = self._ask(lambda: self._exchange(endpoint, code, proof), may_repeat=False)
        claims = self._claims(token, proof)
        if "email" not in claims and "userinfo_endpoint" in self._metadata():
            claims |= self._userinfo(token, claims["sub"])
        return self._identity_of(claims)

    def _exchange(self, endpoint: str, code: str, proof: Proof) -> dict[str, Any]:
        with self._client(proof) as client:
            try:
                return dict(client.fetch_token(endpoint, code=code, code_verifier=proof.verifier))
            except OAuthError as error:
                raise SignOnRefused(f"The provider refused the sign-on: {error.error}; start again.") from error

    def _claims(self, token: dict[str, Any], proof: Proof) -> dict[str, Any]:
        expected = {
            "iss": {"essential": True, "value": self.settings.issuer},
            "aud": {"essential": True, "value": self.settings.client_id},
        }
        parameters = {
            "nonce": proof.nonce,
            "client_id": self.settings.client_id,
            "access_token": token.get("access_token"),
        }
        try:
            signed = self._verified(str(token.get("id_token", "")))
            claims = CodeIDToken(signed.claims, signed.header, expected, parameters)
            claims.validate(leeway=_LEEWAY_S)
        except (JoseError, ValueError) as error:
            raise SignOnRefused(f"The provider's token does not fit this sign-on: {error}; start again.") from error
        return dict(claims)

    def _verified(self, token: str) -> jwt.Token:
        registry = JWSRegistry(algorithms=_ALGORITHMS, strict_check_header=False)
        try:
            return jwt.decode(token, self._keys(), registry=registry)
        except InvalidKeyIdError:
            # The provider has rotated its keys since they were read.
            return jwt.decode(token, self._keys(is_stale=True), registry=registry)

    def _userinfo(self, token: dict[str, Any], subject: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token.get('access_token')}"}
        endpoint = self._endpoint("userinfo_endpoint")
        claims = self._ask(lambda: self._fetch(endpoint, headers))
        if claims.get("sub") != subject:
            raise SignOnRefused("The provider answered for another person than its token; start again.")
        return claims

    def _identity_of(self, claims: dict[str, Any]) -> Identity:
        groups = claims.get(self.settings.groups_claim, [])
        return Identity(
            issuer=self.settings.issuer,
            subject=str(claims["sub"]),
            email=str(claims.get("email") or ""),
            # Some providers write the boolean as a text.
            email_is_verified=claims.get("email_verified") in (True, "true"),
            name=str(claims.get("name") or claims.get("preferred_username") or claims.get("email") or ""),
            groups=frozenset(map(str, groups)) if isinstance(groups, list) else frozenset(),
        )

    def _keys(self, *, is_stale: bool = False) -> KeySet:
        document = self._document("keys", lambda: self._endpoint("jwks_uri"), is_stale=is_stale)
        return KeySet.import_key_set({"keys": document.get("keys", [])})

    def _metadata(self) -> dict[str, Any]:
        url = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = self._document("metadata", lambda: url)
        # OpenID Connect Discovery 1.0, section 4.3: otherwise one provider could speak for another.
        if document.get("issuer") != self.settings.issuer:
            raise ProviderUnavailable(f"What is at {url} is another issuer: {document.get('issuer')!r}.")
        return document

    def _endpoint(self, name: str) -> str:
        url = self._metadata().get(name)
        if not isinstance(url, str):
            raise ProviderUnavailable(f"The sign-on provider {self.name!r} names no {name}.")
        return url

    def _document(self, kind: str, url: Callable[[], str], *, is_stale: bool = False) -> dict[str, Any]:
        kept_until, document = self._documents.get(kind, (0.0, {}))
        if is_stale or self._monotonic() >= kept_until:
            where = url()
            document = self._ask(lambda: self._fetch(where))
            self._documents[kind] = self._monotonic() + _KEPT_S, document
        return document

    def _fetch(self, url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        with httpx2.Client(timeout=self._patience_s, headers=headers, verify=self._authorities) as client:
            answer = client.get(url)
            answer.raise_for_status()
            document = answer.json()
        if not isinstance(document, dict):
            raise ValueError("the answer is no JSON object")
        return document

    def _ask(self, action: Callable[[], dict[str, Any]], *, may_repeat: bool = True) -> dict[str, Any]:
        def translated() -> dict[str, Any]:
            try:
                return action()
            except (httpx2.HTTPError, ValueError) as error:
                reason = str(error) or type(error).__name__
                raise ProviderUnavailable(f"The sign-on provider {self.name!r} does not answer: {reason}.") from error

        try:
            return self._service.call(translated, may_repeat=may_repeat)
        except CircuitOpen as refusal:
            raise ProviderUnavailable(refusal.message, retry_after_s=refusal.retry_after_s) from None

    def _client(self, proof: Proof) -> OAuth2Client:
        secret = self.settings.client_secret
        return OAuth2Client(
            client_id=self.settings.client_id,
            client_secret=secret.get_secret_value() if secret else None,
            scope=" ".join(self.settings.scopes),
            redirect_uri=proof.redirect_url,
            code_challenge_method="S256",
            timeout=self._patience_s,
            verify=self._authorities,
        )

    @property
    def _patience_s(self) -> float:
        # So that all attempts at one question together end within the timeout.
        return self.settings.timeout_s / (_RETRY.max_attempts + 0.1)


__all__ = ["Identity", "OidcProvider", "Proof"]
