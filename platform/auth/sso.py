"""The rules of single sign-on: what begins here ends here, and an email counts only when it is verified."""

import secrets
from dataclasses import asdict, dataclass
from hashlib import sha256

import orjson
import redis
import structlog
from sqlmodel import Session, func, select

from ..kernel.cache import CacheUnavailable
from ..kernel.events import record
from ..kernel.ids import new_id
from ..kernel.limits import Limit, RateLimiter, network_of
from ..kernel.security import TokenSigner
from ..kernel.settings import AuthSettings, Settings, SsoProviderSettings
from . import keys, service, users
from .errors import EmailNotVerified, LastAdmin, SignOnRefused, SsoProviderNotFound, TooManySignOns
from .events import SignedOn
from .models import SsoIdentity, User
from .permissions import GlobalRole
from .schemas import AuthResponse
from .sso_provider import Identity, OidcProvider, Proof

log = structlog.get_logger(__name__)

STATE_TTL_S = 600
# Each one that is begun lies in Valkey for its time, and anybody may begin one.
_PER_ADDRESS = Limit(600, STATE_TTL_S)
_RANKS = [GlobalRole.GUEST, GlobalRole.VIEWER, GlobalRole.DEVELOPER, GlobalRole.ADMIN]


@dataclass(frozen=True)
class Beginning:
    """A sign-on that was begun: where the person goes, and what proves later that it was this browser."""

    url: str
    state: str


class SsoProviders:
    """The providers of the settings, each with its circuit and what it was last seen to say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._providers = {name: OidcProvider(name, each) for name, each in settings.auth.sso.items()}

    def all(self) -> list[OidcProvider]:
        """Return the providers in the order of the settings."""
        return list(self._providers.values())

    def get(self, name: str) -> OidcProvider:
        """Return a provider.

        Raises:
            SsoProviderNotFound: If the settings name none of this name.
        """
        if name not in self._providers:
            raise SsoProviderNotFound(name)
        return self._providers[name]

    def redirect_url(self, provider: OidcProvider) -> str:
        """Return where the provider sends people back to."""
        callback = f"{self._settings.http.base_url}/api/v1/auth/sso/{provider.name}/callback"
        return provider.settings.redirect_url or callback


def begin(
    cache: redis.Redis, limiter: RateLimiter, *, provider: OidcProvider, redirect_url: str, address: str
) -> Beginning:
    """Remember a new sign-on for ten minutes, and say where it goes on.

    Raises:
        TooManySignOns: If the address has begun too many.
        ProviderUnavailable: If the provider does not answer.
        CacheUnavailable: If Valkey does not.
    """
    decision = limiter.hit("sso", network_of(address), _PER_ADDRESS)
    if not decision.allowed:
        raise TooManySignOns(decision.reset_after_s)
    state = secrets.token_urlsafe(32)
    proof = Proof(redirect_url=redirect_url, verifier=secrets.token_urlsafe(48), nonce=secrets.token_urlsafe(32))
    url = provider.authorization_url(proof, state)
    try:
        cache.set(_key(provider, state), orjson.dumps(asdict(proof)), ex=STATE_TTL_S)
    except redis.RedisError as error:
        raise CacheUnavailable from error
    return Beginning(url=url, state=state)


def finish(
    cache: redis.Redis, *, provider: OidcProvider, state: str, state_of_browser: str | None, code: str
) -> Identity:
    """Return whom the provider vouches for at the end of a sign-on that this browser began; once.

    Raises:
        SignOnRefused: If it was not begun here, or the provider's answer does not fit.
        ProviderUnavailable: If the provider does not answer.
        CacheUnavailable: If Valkey does not.
    """
    if not secrets.compare_digest(state.encode(), (state_of_browser or "").encode()):
        raise SignOnRefused("This sign-on was not begun in this browser; start again.")
    try:
        remembered = cache.getdel(_key(provider, state))
    except redis.RedisError as error:
        raise CacheUnavailable from error
    if not isinstance(remembered, bytes):
        raise SignOnRefused("This sign-on has ended or took longer than ten minutes; start again.")
    return provider.identity(code, Proof(**orjson.loads(remembered)))


def sign_in(
    session: Session, *, provider: OidcProvider, identity: Identity, signer: TokenSigner, settings: AuthSettings
) -> AuthResponse:
    """Log the account in that belongs to an identity, linking or making it the first time.

    Raises:
        EmailNotVerified: If the identity is new and its email is not verified.
        SignOnRefused: If the account is disabled, or there is none and the provider makes none.
    """
    user = _find_linked(session, identity) or _link(session, provider, identity)
    if user.disabled_at is not None:
        raise SignOnRefused("The account is disabled; ask an administrator.")
    _follow_roles(session, user, identity, provider.settings)
    teams = provider.settings.teams
    joins = {team for group, team in teams.items() if group in identity.groups}
    leaves = set(teams.values()) - joins
    record(session, SignedOn(user.id, provider.name, joins=sorted(joins), leaves=sorted(leaves)))
    return service.open_session(session, user=user, signer=signer, settings=settings)


def _key(provider: OidcProvider, state: str) -> str:
    return f"sso:{provider.name}:{sha256(state.encode()).hexdigest()}"


def _find_linked(session: Session, identity: Identity) -> User | None:
    known = select(SsoIdentity.user_id).where(
        SsoIdentity.issuer == identity.issuer, SsoIdentity.subject == identity.subject
    )
    user_id = session.exec(known).one_or_none()
    return session.get(User, user_id) if user_id else None


def _link(session: Session, provider: OidcProvider, identity: Identity) -> User:
    if not identity.email or not identity.email_is_verified:
        raise EmailNotVerified(provider.name)
    # One first sign-on at a time per email; the second finds what the first has made.
    lock = func.pg_advisory_xact_lock(func.hashtext(service.normalised(identity.email)))
    session.execute(select(lock))
    if linked := _find_linked(session, identity):
        return linked
    user = service.find_user(session, identity.email)
    if user is None:
        user = _make_account(session, provider, identity)
    elif user.project_id is not None:
        raise SignOnRefused("This email is a service account's, which nobody signs on to.")
    elif not _is_proven(session, user):
        _end_what_was_held(session, user)
    session.add(user)
    session.add(SsoIdentity(id=new_id("sso"), issuer=identity.issuer, subject=identity.subject, user_id=user.id))
    session.flush()
    return user


def _is_proven(session: Session, user: User) -> bool:
    """Tell whether a provider has vouched before that the account's email is its holder's."""
    return session.exec(select(SsoIdentity.id).where(SsoIdentity.user_id == user.id)).first() is not None


def _end_what_was_held(session: Session, user: User) -> None:
    """End every credential of an account: who registered with the email, and made them, may be somebody else."""
    user.password_hash = None
    service.revoke_sessions(session, user.id)
    keys.revoke_keys_of(session, user.id)


def _make_account(session: Session, provider: OidcProvider, identity: Identity) -> User:
    if not provider.settings.creates_accounts:
        raise SignOnRefused(f"There is no account for {identity.email}; ask an administrator for an invitation.")
    role = GlobalRole(provider.settings.default_role)
    return service.make_account(session, email=identity.email, name=identity.name[:200], role=role)


def _follow_roles(session: Session, user: User, identity: Identity, settings: SsoProviderSettings) -> None:
    if not settings.roles:
        return
    granted = [GlobalRole(role) for group, role in settings.roles.items() if group in identity.groups]
    role = max(granted, key=_RANKS.index, default=GlobalRole(settings.default_role))
    if role == user.role:
        return
    try:
        users.assign_role(session, user.id, role)
    except LastAdmin:
        log.warning("last_admin_stays", user_id=user.id, role=role)


__all__ = ["Beginning", "SsoProviders", "begin", "finish", "sign_in"]
