"""How often a password may be guessed: per account and per address, so that neither opens to patience."""

from dataclasses import dataclass

from ..kernel.errors import AuthenticationFailed
from ..kernel.limits import Decision, Limit, RateLimiter, network_of
from ..kernel.security import hash_secret
from ..kernel.settings import AuthSettings
from .errors import TooManyAttempts

_ACCOUNT, _ADDRESS = "login-account", "login-address"


@dataclass(frozen=True)
class LoginAttempt:
    """One attempt at a password, as a context: refused when there were too many, counted when it fails.

    The counts are asked again when the password has been looked at: of guesses that are sent at once only as many are
    answered as may fail, and any number of right passwords. Unknown accounts count like known ones.
    """

    limiter: RateLimiter
    settings: AuthSettings
    account: str
    address: str

    def __enter__(self) -> None:
        _refuse(self.limiter.peek(_ADDRESS, network_of(self.address), self._per_address))
        _refuse(self.limiter.peek(_ACCOUNT, self._account_key, self._per_account))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            _refuse(self.limiter.peek(_ACCOUNT, self._account_key, self._per_account))
            self.limiter.clear(_ACCOUNT, self._account_key, self._per_account)
        elif isinstance(error, AuthenticationFailed):
            _refuse(self.limiter.hit(_ADDRESS, network_of(self.address), self._per_address))
            _refuse(self.limiter.hit(_ACCOUNT, self._account_key, self._per_account))

    @property
    def _account_key(self) -> str:
        return hash_secret(self.account.strip().casefold())

    @property
    def _per_account(self) -> Limit:
        return Limit(self.settings.login_failures_per_account, self.settings.login_window_s)

    @property
    def _per_address(self) -> Limit:
        return Limit(self.settings.login_failures_per_address, self.settings.login_window_s)


def _refuse(decision: Decision) -> None:
    if not decision.allowed:
        raise TooManyAttempts(decision.reset_after_s)
