"""Puts back a static application that was deleted from Serve by hand.

Serve forgets the configuration of an application when it is deleted. So the last declaration of the cluster, whoever
made it (``raymill up``, ``serve deploy`` or KubeRay), is kept in PostgreSQL as Serve shows it. A new declaration
changes the time of deployment of every declared application; a deletion by hand leaves that of the others as it was.
Then the same declaration is made again, which restarts nothing of what still runs. When this controller itself is
deleted, the platform is being taken down, and nobody puts anything back.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from ..compute.cluster import Cluster
from ..kernel.resources import Resources
from .models import ServeDeclaration

log = structlog.get_logger("raymill.controller")

OWN_APP = "controller"
_OPTIONS = ("proxy_location", "http_options", "grpc_options", "target_capacity")


@dataclass(frozen=True)
class Declared:
    """The applications that were last declared together, and the options beside them."""

    at: float
    apps: dict[str, dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> "Declared":
        """Take from Serve's answer what is declared and not being deleted."""
        rows = {
            name: row
            for name, row in answer["applications"].items()
            if row["source"] == "declarative" and row["status"] != "DELETING" and row["deployed_app_config"]
        }
        return cls(
            at=max((row["last_deployed_time_s"] for row in rows.values()), default=0.0),
            apps={name: row["deployed_app_config"] for name, row in rows.items()},
            options={name: answer[name] for name in _OPTIONS if answer.get(name) is not None},
        )

    def config(self) -> dict[str, Any]:
        """Return the declaration as Serve takes it."""
        return {**self.options, "applications": list(self.apps.values())}


def missing(kept: Declared | None, seen: Declared) -> frozenset[str]:
    """Return the applications that were deleted by hand since the kept declaration."""
    if kept is None or seen.at > kept.at or OWN_APP not in seen.apps:
        return frozenset()
    return frozenset(kept.apps.keys() - seen.apps.keys())


class StaticApps:
    """The static applications of one cluster."""

    def __init__(self, resources: Resources, cluster: Cluster, lease: str) -> None:
        self._database = resources.database
        self._cluster = cluster
        self._lease = lease

    def step(self) -> None:
        """Keep a new declaration, or make the kept one again if an application of it is gone.

        Raises:
            ClusterUnreachable: If the dashboard does not answer.
            DatabaseUnavailable: If PostgreSQL does not answer.
        """
        seen = Declared.read(self._cluster.call("GET", "/api/serve/applications/"))
        with self._database.session() as session:
            kept = find_declaration(session, self._lease)
            if OWN_APP in seen.apps and (kept is None or seen.at > kept.at):
                keep_declaration(session, self._lease, seen)
        if kept is not None and (gone := missing(kept, seen)):
            log.warning("static_apps_put_back", apps=sorted(gone))
            self._cluster.put_serve_config(kept.config())


def find_declaration(session: Session, lease: str) -> Declared | None:
    """Return the last declaration of the lease's cluster, None before the first."""
    row = session.get(ServeDeclaration, lease)
    return Declared(**row.declared) if row else None


def keep_declaration(session: Session, lease: str, declared: Declared) -> None:
    """Keep the declaration of the lease's cluster in the place of the one before."""
    attempt = insert(ServeDeclaration).values(lease=lease, declared=asdict(declared))
    replaced = {"declared": attempt.excluded.declared}
    session.execute(attempt.on_conflict_do_update(index_elements=[col(ServeDeclaration.lease)], set_=replaced))
