"""From rows to the documents of the data plane; pure functions."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..auth.keys import KeyGrant as Key
from ..auth.permissions import Permission
from ..serving.published.grants import Administrators, KeyGrant, ProjectGrants, Revocations
from ..serving.published.table import AccessPolicy, EndpointDocument
from ..serving.published.table import Revision as ServedRevision
from .models import Deployment, Revision
from .rollouts import to_warm
from .schemas import DeploymentStatus, Environment, RevisionStatus
from .tiers import is_down

# What the data plane asks for; other rights have no meaning there.
DATA_PLANE = frozenset({Permission.ENDPOINT_INVOKE})
# Revisions without traffic that model servers still know, newest first.
KEPT_REVISIONS = 10


def endpoint_key(project_name: str, name: str, environment: str) -> str:
    """Return the name of an endpoint in its URL."""
    key = f"{project_name}.{name}"
    return key if environment == Environment.PRODUCTION else f"{key}.{environment}"


def endpoint_url(base_url: str, key: str) -> str:
    """Return the URL below which an endpoint answers."""
    return f"{base_url}/v2/models/{key}"


def compile_endpoint(deployment: Deployment, revisions: Iterable[Revision], *, version: int = 1) -> EndpointDocument:
    """Write down all that a model server must know of a deployment."""
    traffic = {int(number): weight for number, weight in deployment.traffic.items() if weight}
    is_stopped = deployment.status == DeploymentStatus.STOPPED
    known = [row for row in revisions if row.status != RevisionStatus.FAILED and not is_stopped]
    newest = sorted(known, key=lambda revision: revision.number, reverse=True)
    warming = to_warm(deployment, newest)
    busy = warming | traffic.keys()
    idle = [revision for revision in newest if revision.number not in busy][:KEPT_REVISIONS]
    served = [revision for revision in newest if revision.number in busy] + idle
    return EndpointDocument(
        key=deployment.endpoint_key,
        version=version,
        endpoint_id=deployment.id,
        project_id=deployment.project_id,
        revisions=tuple(_revision(row) for row in sorted(served, key=lambda row: row.number)),
        traffic=traffic,
        warming=tuple(sorted(warming)),
        failing=tuple(sorted(row.number for row in served if row.number in traffic and is_down(row))),
        access=AccessPolicy.model_validate(deployment.access),
        **_options(deployment.options),
    )


def compile_grants(
    project_id: str,
    *,
    members: Mapping[str, frozenset[Permission]],
    keys: Iterable[Key],
    disabled: Iterable[str] = (),
    version: int = 1,
) -> ProjectGrants:
    """Write down who may do what with a project's endpoints; a key may never do more than its maker."""
    dead = frozenset(disabled)
    return ProjectGrants(
        project_id=project_id,
        version=version,
        members={user_id: _relevant(held) for user_id, held in members.items() if user_id not in dead},
        keys={
            key.secret_sha256: KeyGrant(
                id=key.id,
                permissions=_relevant(_rights(key, members.get(key.created_by, frozenset()))),
                expires_at=key.expires_at,
                endpoint=key.endpoint,
            )
            for key in keys
            if key.created_by not in dead
        },
    )


def compile_revocations(sessions: Mapping[str, float], disabled: Iterable[str], *, version: int = 1) -> Revocations:
    """Write down which sessions (until which Unix second) and users are dead."""
    until = {id_: datetime.fromtimestamp(second, UTC) for id_, second in sessions.items()}
    return Revocations(version=version, sessions=until, users=frozenset(disabled))


def compile_administrators(users: Iterable[str], *, version: int = 1) -> Administrators:
    """Write down whose logins may do everything everywhere."""
    return Administrators(version=version, users=frozenset(users))


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Name the options as the table does; those that were never given are left to it."""
    options = dict(given)
    routing, logging = options.pop("routing", None), options.pop("logging", None)
    return options | (routing or {}) | ({"log": logging} if logging else {})


def _rights(key: Key, of_maker: frozenset[Permission]) -> frozenset[Permission]:
    return of_maker if key.permissions is None else of_maker & key.permissions


def _relevant(permissions: frozenset[Permission]) -> frozenset[str]:
    return frozenset(permission.value for permission in permissions & DATA_PLANE)


def _revision(row: Revision) -> ServedRevision:
    return ServedRevision.model_validate(
        {
            "number": row.number,
            "format": row.format,
            "uri": row.uri,
            "sha256": row.sha256,
            "size_bytes": row.size_bytes,
            "signature": row.signature,
            "example": row.example,
            "app": row.app,
            "made_at": row.created_at.timestamp(),
        }
    )
