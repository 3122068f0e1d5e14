"""The rate limits of the control plane, per address and per principal, as one plain ASGI layer."""

from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.deps import credential_of
from ..kernel.errors import AuthenticationFailed, RateLimited
from ..kernel.limits import Decision, Limit, network_of
from ..kernel.resources import Resources
from ..kernel.security import hash_secret
from .errors import refusal

# What watches the platform must see it best when too many ask.
_UNLIMITED = frozenset({"/healthz", "/readyz", "/metrics"})
_MINUTE_S = 60


class TooManyRequests(RateLimited):
    """Raised when an address or a principal has asked too often."""

    def __init__(self, whose: str, decision: Decision) -> None:
        super().__init__(
            f"Too many requests: {whose} may send {decision.limit} in a minute; "
            f"try again in {decision.reset_after_s} s.",
            details={"limit": decision.limit, "per": whose},
            retry_after_s=decision.reset_after_s,
        )


class RateLimits:
    """Counts every request, says in X-RateLimit-* how many are left, and refuses what is too much."""

    def __init__(self, app: ASGIApp, resources: Resources) -> None:
        settings = resources.settings.limits
        self._app = app
        self._limiter = resources.limiter
        self._signer = resources.signer
        self._per_address = Limit(settings.address_per_minute, _MINUTE_S)
        self._per_principal = Limit(settings.principal_per_minute, _MINUTE_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) in _UNLIMITED:
            await self._app(scope, receive, send)
            return
        # The counts are a question to Valkey, which may take as long as the cache's timeout.
        whose, decision = await run_sync(self._decide, scope)

        async def send_with_counts(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_counts(decision))
            await send(message)

        app = self._app if decision.allowed else refusal(TooManyRequests(whose, decision))
        await app(scope, receive, send_with_counts)

    def _decide(self, scope: Scope) -> tuple[str, Decision]:
        """Return the tighter of the limits that hold for a request, and whose it is."""
        by_address = self._limiter.hit("address", _network(scope), self._per_address)
        principal = self._principal(Headers(scope=scope)) if by_address.allowed else None
        if principal is None:
            return "an address", by_address
        by_principal = self._limiter.hit("principal", principal, self._per_principal)
        if by_principal.allowed and by_address.remaining < by_principal.remaining:
            return "an address", by_address
        return "an account or API key", by_principal

    def _principal(self, headers: Headers) -> str | None:
        """Name who is asking without a question to the database; whether they may is decided later."""
        credential = credential_of(headers)
        if not credential:
            return None
        if credential.startswith("rm_"):
            return hash_secret(credential)
        try:
            return self._signer.verifier.claims(credential).user_id
        except AuthenticationFailed:
            return None


def _network(scope: Scope) -> str:
    client = scope.get("client")
    return network_of(client[0] if client else "")


def _counts(decision: Decision) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(decision.limit),
        "X-RateLimit-Remaining": str(decision.remaining),
        "X-RateLimit-Reset": str(decision.reset_after_s),
    }
