"""Lineage: which thing was made from which, as edges between ids of all slices."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, and_, col, or_, select

from ..kernel.clock import utc_now
from ..kernel.ids import new_id
from .models import LineageEdge
from .schemas import LineageEdgeRead, LineageKind

End = tuple[str, str]


def link(session: Session, *, project_id: str, source: End, target: End) -> None:
    """Note that ``target`` was made from ``source``; each is (kind, id), and noting it twice is noting it once.

    Raises:
        ValueError: If a kind is not one of ``LineageKind``.
    """
    edge = {
        "source_kind": LineageKind(source[0]),
        "source_id": source[1],
        "target_kind": LineageKind(target[0]),
        "target_id": target[1],
    }
    row = {"id": new_id("lin"), "created_at": utc_now(), "project_id": project_id}
    session.execute(insert(LineageEdge).values(**row, **edge).on_conflict_do_nothing())


def lineage_of(session: Session, kind: str, id_: str) -> list[LineageEdgeRead]:
    """Return every edge on the ways that lead to a thing and away from it, oldest first."""
    return lineages(session, kind, [id_])[id_]


def lineages(session: Session, kind: str, ids: Sequence[str]) -> dict[str, list[LineageEdgeRead]]:
    """Return the lineage of several things of one kind, by id, in one query."""
    found: dict[str, list[LineageEdgeRead]] = {id_: [] for id_ in ids}
    ways = _upwards(kind, ids).union(_downwards(kind, ids)).subquery()
    statement = select(ways.c.root, LineageEdge).join(LineageEdge, col(LineageEdge.id) == ways.c.edge)
    for root, edge in session.exec(statement.order_by(col(LineageEdge.id))):
        found[root].append(LineageEdgeRead.model_validate(edge))
    return found


def forget(session: Session, kind: LineageKind, ids: Sequence[str]) -> None:
    """Remove the edges of things of one kind that are being deleted."""
    begins = and_(col(LineageEdge.source_kind) == kind, col(LineageEdge.source_id).in_(ids))
    ends = and_(col(LineageEdge.target_kind) == kind, col(LineageEdge.target_id).in_(ids))
    session.execute(delete(LineageEdge).where(or_(begins, ends)))


def _upwards(kind: str, ids: Sequence[str]) -> Any:
    first: Any = select(
        col(LineageEdge.target_id).label("root"),
        col(LineageEdge.id).label("edge"),
        LineageEdge.source_kind,
        LineageEdge.source_id,
    ).where(LineageEdge.target_kind == kind, col(LineageEdge.target_id).in_(ids))
    way = first.cte("upwards", recursive=True)
    further = select(way.c.root, LineageEdge.id, LineageEdge.source_kind, LineageEdge.source_id).join(
        way,
        and_(col(LineageEdge.target_kind) == way.c.source_kind, col(LineageEdge.target_id) == way.c.source_id),
    )
    # UNION, not UNION ALL: a cycle ends the walk instead of going round for ever.
    way = way.union(further)
    return select(way.c.root, way.c.edge)


def _downwards(kind: str, ids: Sequence[str]) -> Any:
    first: Any = select(
        col(LineageEdge.source_id).label("root"),
        col(LineageEdge.id).label("edge"),
        LineageEdge.target_kind,
        LineageEdge.target_id,
    ).where(LineageEdge.source_kind == kind, col(LineageEdge.source_id).in_(ids))
    way = first.cte("downwards", recursive=True)
    further = select(way.c.root, LineageEdge.id, LineageEdge.target_kind, LineageEdge.target_id).join(
        way,
        and_(col(LineageEdge.source_kind) == way.c.target_kind, col(LineageEdge.source_id) == way.c.target_id),
    )
    way = way.union(further)
    return select(way.c.root, way.c.edge)
