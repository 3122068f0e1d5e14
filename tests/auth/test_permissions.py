"""The permission table holds what the roles promise."""

from raymill.auth.permissions import JOB_PERMISSIONS, ROLES, Permission, ProjectRole


def test_each_role_holds_all_of_the_role_below() -> None:
    assert ROLES[ProjectRole.VIEWER] < ROLES[ProjectRole.DEVELOPER] < ROLES[ProjectRole.OWNER]


def test_only_jobs_may_report_as_jobs() -> None:
    assert all(Permission.JOB_REPORT not in held for held in ROLES.values())
    assert Permission.JOB_REPORT in JOB_PERMISSIONS


def test_jobs_can_neither_deploy_nor_make_keys() -> None:
    assert not JOB_PERMISSIONS & {Permission.DEPLOYMENT_WRITE, Permission.KEY_WRITE, Permission.PROJECT_ADMIN}
