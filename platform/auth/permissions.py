"""The one table that says which role holds which permission, for every route of every plane."""

from enum import StrEnum


class GlobalRole(StrEnum):
    """What an account may do outside of projects."""

    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"
    GUEST = "guest"


class ProjectRole(StrEnum):
    """What a member may do inside one project."""

    OWNER = "owner"
    DEVELOPER = "developer"
    VIEWER = "viewer"


class Permission(StrEnum):
    """One right: the first four concern the whole platform, the others a project."""

    USER_ADMIN = "user:admin"
    PROJECT_CREATE = "project:create"
    PROJECT_JOIN = "project:join"
    TEAM_CREATE = "team:create"

    PROJECT_READ = "project:read"
    PROJECT_ADMIN = "project:admin"
    KEY_WRITE = "key:write"
    SECRET_READ = "secret:read"
    SECRET_WRITE = "secret:write"
    DATASET_READ = "dataset:read"
    DATASET_WRITE = "dataset:write"
    MODEL_READ = "model:read"
    MODEL_WRITE = "model:write"
    RUN_READ = "run:read"
    RUN_WRITE = "run:write"
    JOB_READ = "job:read"
    JOB_WRITE = "job:write"
    JOB_REPORT = "job:report"
    DEPLOYMENT_READ = "deployment:read"
    DEPLOYMENT_WRITE = "deployment:write"
    DEPLOYMENT_PRODUCTION = "deployment:production"
    ENDPOINT_INVOKE = "endpoint:invoke"
    ENDPOINT_OPEN = "endpoint:open"
    LOG_READ = "log:read"


_VIEWER = frozenset(
    {
        Permission.PROJECT_READ,
        Permission.DATASET_READ,
        Permission.MODEL_READ,
        Permission.RUN_READ,
        Permission.JOB_READ,
        Permission.DEPLOYMENT_READ,
        Permission.ENDPOINT_INVOKE,
    }
)
_DEVELOPER = _VIEWER | {
    Permission.KEY_WRITE,
    Permission.SECRET_READ,
    Permission.SECRET_WRITE,
    Permission.DATASET_WRITE,
    Permission.MODEL_WRITE,
    Permission.RUN_WRITE,
    Permission.JOB_WRITE,
    Permission.DEPLOYMENT_WRITE,
    Permission.DEPLOYMENT_PRODUCTION,
    Permission.LOG_READ,
}
_OWNER = _DEVELOPER | {Permission.PROJECT_ADMIN, Permission.ENDPOINT_OPEN}

ROLES: dict[ProjectRole, frozenset[Permission]] = {
    ProjectRole.VIEWER: _VIEWER,
    ProjectRole.DEVELOPER: _DEVELOPER,
    ProjectRole.OWNER: _OWNER,
}

# What a running job may do in its project, and nothing else.
JOB_PERMISSIONS = frozenset(
    {
        Permission.DATASET_READ,
        Permission.JOB_READ,
        Permission.JOB_REPORT,
        Permission.MODEL_READ,
        Permission.MODEL_WRITE,
        Permission.RUN_READ,
        Permission.RUN_WRITE,
        Permission.SECRET_READ,
    }
)

# What an account may do outside of projects; an administrator's login may do everything inside them too.
_JOINER = frozenset({Permission.PROJECT_JOIN})
_CREATOR = _JOINER | {Permission.PROJECT_CREATE, Permission.TEAM_CREATE}

GLOBAL_ROLES: dict[GlobalRole, frozenset[Permission]] = {
    GlobalRole.ADMIN: frozenset(Permission) - {Permission.JOB_REPORT},
    GlobalRole.DEVELOPER: _CREATOR,
    GlobalRole.VIEWER: _JOINER,
    GlobalRole.GUEST: frozenset(),
}
