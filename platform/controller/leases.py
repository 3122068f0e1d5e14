"""Leases: of all controllers that run, one acts.

A lease is taken and renewed by one statement, on the database's clock, so that controllers need not agree on the time.
A holder trusts its lease only until the moment it could have expired, counted on its own monotonic clock from before
the renewal was sent.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, func, or_, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from ..kernel.db import Database
from .models import Lease


def database_now(session: Session) -> datetime:
    """Return the moment on the database's clock."""
    moment: datetime = session.exec(select(func.clock_timestamp())).one()
    return moment


def acquire(session: Session, *, name: str, holder: str, life_s: float, now: datetime) -> int | None:
    """Take or renew the lease; return its token, or None while another holds it."""
    expires_at = now + timedelta(seconds=life_s)
    attempt = insert(Lease).values(name=name, holder=holder, token=1, expires_at=expires_at)
    same_holder = col(Lease.holder) == attempt.excluded.holder
    statement = attempt.on_conflict_do_update(
        index_elements=[col(Lease.name)],
        set_={
            "holder": attempt.excluded.holder,
            "expires_at": attempt.excluded.expires_at,
            "token": case((same_holder, col(Lease.token)), else_=col(Lease.token) + 1),
        },
        where=or_(same_holder, col(Lease.expires_at) < now),
    ).returning(col(Lease.token))
    return session.execute(statement).scalar_one_or_none()


def release(session: Session, *, holder: str, now: datetime) -> None:
    """Let go of every lease of this holder, so that a successor need not wait."""
    session.execute(update(Lease).where(col(Lease.holder) == holder).values(expires_at=now - timedelta(seconds=1)))


def living(session: Session, *, prefix: str, grace_s: float) -> list[str]:
    """Return the names, without the prefix, of leases that hold or ran out less than the grace ago."""
    since = database_now(session) - timedelta(seconds=grace_s)
    names = select(Lease.name).where(col(Lease.name).startswith(prefix), col(Lease.expires_at) >= since)
    return [name.removeprefix(prefix) for name in session.exec(names)]


@dataclass(frozen=True)
class Held:
    """A lease as its holder knows it."""

    token: int
    until: float


class LeaseKeeper:
    """Takes the named leases for one holder and knows which of them it may trust."""

    def __init__(
        self,
        database: Database,
        *,
        names: Iterable[str],
        holder: str,
        life_s: float,
        now: Callable[[Session], datetime] = database_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.life_s = life_s
        self._database = database
        self._names = tuple(names)
        self._holder = holder
        self._now = now
        self._monotonic = monotonic
        self._held: dict[str, Held] = {}

    def renew(self) -> None:
        """Take or renew every lease that is free or ours.

        Raises:
            DatabaseUnavailable: If PostgreSQL cannot be reached; leases then run out by themselves.
        """
        until = self._monotonic() + self.life_s
        with self._database.session() as session:
            now = self._now(session)
            # Sorted, so that two controllers never wait for each other's rows crosswise.
            tokens = {name: self._acquire(session, name, now) for name in sorted(self._names)}
        self._held = {name: Held(token, until) for name, token in tokens.items() if token is not None}

    def token(self, name: str) -> int | None:
        """Return the token of a lease that is surely still ours, else None."""
        held = self._held.get(name)
        return held.token if held is not None and self._monotonic() < held.until else None

    def release(self) -> None:
        """Let go of every lease.

        Raises:
            DatabaseUnavailable: If PostgreSQL cannot be reached.
        """
        self._held = {}
        with self._database.session() as session:
            release(session, holder=self._holder, now=self._now(session))

    def _acquire(self, session: Session, name: str, now: datetime) -> int | None:
        return acquire(session, name=name, holder=self._holder, life_s=self.life_s, now=now)
