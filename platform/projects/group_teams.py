"""Teams that follow the groups of a sign-on provider."""

import structlog
from sqlmodel import Session, col, or_, select

from ..auth.events import SignedOn
from ..kernel.resources import Resources
from . import teams
from .errors import JoiningDenied, LastTeamOwner, MemberNotFound
from .models import Team

log = structlog.get_logger(__name__)


def subscribe(resources: Resources) -> None:
    """Let people join and leave teams as their provider says when they sign on."""

    def follow(event: SignedOn) -> None:
        with resources.session() as session:
            follow_groups(session, event)

    resources.events.subscribe(SignedOn, follow)


def follow_groups(session: Session, event: SignedOn) -> None:
    """Put the person into some teams and take them out of others; a place that exists stays as it is."""
    for team in _named(session, event.joins):
        if teams.find_member(session, team.id, event.user_id) is None:
            _join(session, team, event.user_id)
    for team in _named(session, event.leaves):
        if teams.find_member(session, team.id, event.user_id) is not None:
            _leave(session, team, event.user_id)


def _join(session: Session, team: Team, user_id: str) -> None:
    try:
        teams.set_team_member(session, team=team, user=user_id, role="member")
    except (JoiningDenied, MemberNotFound) as error:
        # A guest, or an account that was disabled meanwhile: the event is done with all the same.
        log.warning("not_joined", team_id=team.id, user_id=user_id, error=error.message)


def _leave(session: Session, team: Team, user_id: str) -> None:
    try:
        teams.remove_team_member(session, team=team, user=user_id)
    except LastTeamOwner:
        # A team without an owner could not be changed any more.
        log.warning("last_team_owner_stays", team_id=team.id, user_id=user_id)


def _named(session: Session, names: list[str]) -> list[Team]:
    statement = select(Team).where(or_(col(Team.name).in_(names), col(Team.id).in_(names)))
    return list(session.exec(statement.order_by(Team.id)))
