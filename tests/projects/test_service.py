"""Every role and every permission: a project decides as the one table says, for one object and for lists."""

import pytest
from sqlmodel import Session, col, select

from factories import Tenant
from raymill.auth.permissions import JOB_PERMISSIONS, ROLES, GlobalRole, Permission, ProjectRole
from raymill.auth.schemas import Principal
from raymill.kernel.errors import PermissionDenied
from raymill.kernel.resources import Resources
from raymill.projects import service
from raymill.projects.errors import ProjectNotFound
from raymill.projects.models import Project

pytestmark = pytest.mark.integration


def allowed(session: Session, principal: Principal, project_id: str) -> set[Permission]:
    """Return what passes, and hold the filter of lists against the decision on the object."""
    passed: set[Permission] = set()
    named: list[str] = []
    for permission in Permission:
        try:
            service.authorize(session, principal, project_id, permission)
            passed.add(permission)
        except PermissionDenied as refusal:
            named.append(refusal.details["permission"])
        listed = session.exec(select(Project.id).where(service.visible(principal, col(Project.id), permission))).all()
        assert (project_id in listed) == (permission in passed)
    assert set(named) == set(Permission) - passed
    return passed


def person(tenant: Tenant, role: GlobalRole = GlobalRole.DEVELOPER) -> Principal:
    return Principal(id=tenant.user_id, kind="user", user_id=tenant.user_id, global_role=role)


@pytest.mark.parametrize("role", list(ProjectRole))
def test_a_role_holds_what_the_table_says(resources: Resources, alice: Tenant, bob: Tenant, role: ProjectRole) -> None:
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": role})
    with resources.session() as session:
        assert allowed(session, person(bob), alice.project_id) == ROLES[role]
        assert service.member_permissions(session, alice.project_id) == {
            alice.user_id: ROLES[ProjectRole.OWNER],
            bob.user_id: ROLES[role],
        }


def test_an_administrator_holds_everything(resources: Resources, alice: Tenant, bob: Tenant) -> None:
    with resources.session() as session:
        assert allowed(session, person(bob, GlobalRole.ADMIN), alice.project_id) == set(Permission)


def test_a_key_holds_no_more_than_its_list_and_its_maker(resources: Resources, alice: Tenant, bob: Tenant) -> None:
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "viewer"})
    listed = frozenset({Permission.MODEL_READ, Permission.MODEL_WRITE})
    key = Principal(
        id="key_1",
        kind="key",
        user_id=bob.user_id,
        global_role=GlobalRole.ADMIN,
        project_id=alice.project_id,
        permissions=listed,
    )
    with resources.session() as session:
        assert allowed(session, key, alice.project_id) == {Permission.MODEL_READ}
        with pytest.raises(ProjectNotFound):
            service.authorize(session, key, bob.project_id, Permission.MODEL_READ)


def test_a_job_holds_its_list_in_its_project(resources: Resources, alice: Tenant, bob: Tenant) -> None:
    job = Principal(
        id="key_1",
        kind="job",
        user_id=alice.user_id,
        global_role=GlobalRole.DEVELOPER,
        project_id=alice.project_id,
        job_id="job_1",
        permissions=JOB_PERMISSIONS,
    )
    with resources.session() as session:
        assert allowed(session, job, alice.project_id) == JOB_PERMISSIONS
        with pytest.raises(ProjectNotFound):
            service.authorize(session, job, bob.project_id, Permission.MODEL_READ)


def test_a_stranger_finds_nothing(resources: Resources, alice: Tenant, bob: Tenant) -> None:
    with resources.session() as session:
        for permission in Permission:
            with pytest.raises(ProjectNotFound):
                service.authorize(session, person(bob), alice.project_id, permission)
            query = select(Project.id).where(service.visible(person(bob), col(Project.id), permission))
            assert alice.project_id not in session.exec(query).all()
