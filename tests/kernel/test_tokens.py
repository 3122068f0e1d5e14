"""Verified tokens are remembered, and only as long as they hold."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from raymill.kernel.tokens import TokenClaims, VerifiedTokens

NOW = 1_800_000_000.0
KEYS = {"kid": object()}


class Shelf:
    """Remembered tokens with a clock that stands still unless moved."""

    def __init__(self, most: int = 3) -> None:
        self.now = NOW
        self.tokens = VerifiedTokens(most, now=lambda: self.now)
        self.tokens.find(b"", KEYS)

    def keep(self, name: bytes, *, expires_at: float = NOW + 900, keys: object = KEYS) -> TokenClaims:
        claims = TokenClaims(f"usr_{name.decode()}", "ses_1", expires_at)
        self.tokens.keep(name, claims, keys)
        return claims


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_what_was_kept_is_found_until_it_expires(shelf: Shelf) -> None:
    claims = shelf.keep(b"a", expires_at=NOW + 10)
    assert shelf.tokens.find(b"a", KEYS) == claims
    assert shelf.tokens.find(b"b", KEYS) is None
    shelf.now = NOW + 10
    assert shelf.tokens.find(b"a", KEYS) is None
    shelf.keep(b"b")
    assert len(shelf.tokens) == 1


def test_when_it_is_full_the_oldest_goes(shelf: Shelf) -> None:
    for name in (b"a", b"b", b"c", b"d"):
        shelf.keep(name)
    assert [bool(shelf.tokens.find(name, KEYS)) for name in (b"a", b"b", b"c", b"d")] == [False, True, True, True]


def test_what_has_expired_makes_room_first(shelf: Shelf) -> None:
    shelf.keep(b"a", expires_at=NOW + 1)
    shelf.keep(b"b", expires_at=NOW + 1)
    shelf.keep(b"c")
    shelf.now = NOW + 1
    shelf.keep(b"d")
    assert len(shelf.tokens) == 2
    assert shelf.tokens.find(b"c", KEYS)


def test_other_keys_make_it_forget_everything(shelf: Shelf) -> None:
    shelf.keep(b"a")
    rotated = dict(KEYS)
    assert shelf.tokens.find(b"a", rotated) is None
    assert len(shelf.tokens) == 0


def test_what_replaced_keys_have_verified_is_not_kept(shelf: Shelf) -> None:
    rotated = dict(KEYS)
    shelf.tokens.find(b"a", rotated)
    shelf.keep(b"a", keys=KEYS)
    assert shelf.tokens.find(b"a", rotated) is None


def test_threads_may_use_it_at_once() -> None:
    shelf = Shelf(most=50)

    def use(number: int) -> bool:
        name = b"%d" % (number % 100)
        found = shelf.tokens.find(name, KEYS) or shelf.keep(name)
        return found.user_id == f"usr_{number % 100}"

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(use, range(5000)))
    # Each thread that keeps what another one has just kept lets one more go.
    assert 50 - 8 < len(shelf.tokens) <= 50
