"""What access tokens say, and those whose signature was checked already."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What an access token says: who, in which session, until when. Never what they may do."""

    user_id: str
    session_id: str
    expires_at: float


class VerifiedTokens:
    """The claims of verified tokens by SHA-256, until they expire or the keys are others; safe for threads.

    When it is full the oldest goes, whether it was used or not: to verify it once more costs less than to keep account.
    """

    def __init__(self, most: int, *, now: Callable[[], float] = time.time) -> None:
        self._most = most
        self._now = now
        self._claims: OrderedDict[bytes, TokenClaims] = OrderedDict()
        self._keys: object = None
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._claims)

    def find(self, digest: bytes, keys: object) -> TokenClaims | None:
        """Return the claims if these very keys have verified the token."""
        if keys is not self._keys:
            self._forget(keys)
        claims = self._claims.get(digest)
        return claims if claims is not None and claims.expires_at > self._now() else None

    def keep(self, digest: bytes, claims: TokenClaims, keys: object) -> None:
        """Remember claims that ``keys`` have verified, unless others came meanwhile."""
        with self._lock:
            if keys is self._keys:
                self._make_room()
                self._claims[digest] = claims

    def _forget(self, keys: object) -> None:
        """Refuse from now on what a key has signed that went."""
        with self._lock:
            self._claims = OrderedDict()
            self._keys = keys

    def _make_room(self) -> None:
        now = self._now()
        while self._claims:
            oldest = next(iter(self._claims.values()))
            if len(self._claims) < self._most and oldest.expires_at > now:
                return
            self._claims.popitem(last=False)
