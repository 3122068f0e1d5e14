"""Quotas: never exceeded, told by name and figure, and given back."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from data_makers import make_dataset, uploaded
from factories import Tenant, make_admin
from model_makers import add_version
from raymill.controller.cleanup import collect_blobs
from raymill.kernel.clock import utc_now
from raymill.kernel.resources import Resources
from raymill.projects import quotas
from raymill.projects.blobs import keep_file
from raymill.projects.models import QuotaClaim
from raymill.projects.quotas import Quota
from raymill.sdk import Client
from registry_makers import import_version, make_model

pytestmark = pytest.mark.integration

TABLE = b"width,kind\n1,a\n2,b\n"


@pytest.fixture
def admin(bob: Tenant) -> Tenant:
    """Return an administrator who is no member of alice's project."""
    return make_admin(bob)


def limit(admin: Tenant, tenant: Tenant, **limits: float) -> None:
    answer = admin.put(f"/projects/{tenant.project_id}/quotas", json=limits)
    assert answer.status_code == 200, answer.text


def usage(tenant: Tenant) -> dict[str, Any]:
    shown: dict[str, Any] = tenant.get(f"/projects/{tenant.project_id}/usage").json()["quotas"]
    return shown


def used(tenant: Tenant, quota: Quota) -> float:
    figure: float = usage(tenant)[quota]["used"]
    return figure


def deploy(tenant: Tenant, name: str) -> Any:
    body = {"project_id": tenant.project_id, "name": name, "model": "digits"}
    return tenant.post("/deployments", json=body)


def later(resources: Resources) -> None:
    """Collect now, and again as if the time of grace had passed."""
    collect_blobs(resources)
    grace = timedelta(seconds=resources.settings.controller.collect_after_s + 1)
    collect_blobs(resources, now=lambda: utc_now() + grace)


def test_usage_shows_every_quota_with_its_limit(resources: Resources, admin: Tenant, alice: Tenant) -> None:
    defaults = resources.settings.quotas.model_dump()
    assert usage(alice) == {name: {"used": 0, "limit": value} for name, value in defaults.items()}
    limit(admin, alice, cpus=3.5, deployments=1)
    assert usage(alice)["cpus"]["limit"] == 3.5
    assert usage(alice)["deployments"]["limit"] == 1
    limit(admin, alice)
    assert usage(alice)["cpus"]["limit"] == defaults["cpus"]


def test_only_administrators_set_quotas(client: TestClient, alice: Tenant, admin: Tenant) -> None:
    where = f"/projects/{alice.project_id}"
    refused = alice.put(f"{where}/quotas", json={"cpus": 1})
    assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "user:admin")
    for method, path in (("PUT", f"{where}/quotas"), ("GET", f"{where}/usage")):
        assert client.request(method, f"/api/v1{path}", json={}).status_code == 401
    assert admin.put("/projects/prj_none/quotas", json={}).status_code == 404
    assert admin.put(f"{where}/quotas", json={"cpus": -1}).status_code == 422
    assert admin.put(f"{where}/quotas", json={"memory": 1}).status_code == 422


def test_the_client_library_reads_usage_and_sets_quotas(platform_url: str, alice: Tenant, admin: Tenant) -> None:
    with Client(platform_url, admin.tokens["access_token"]) as library:
        library.projects.set_quotas(alice.project_id, cpus=2.5, deployments=0)
    with Client(platform_url, alice.tokens["access_token"]) as library:
        shown = library.projects.usage(alice.project_id)
    assert (shown["cpus"].used, shown["cpus"].limit, shown["deployments"].limit) == (0, 2.5, 0)


def test_a_stranger_sees_no_usage(alice: Tenant, bob: Tenant) -> None:
    assert bob.get(f"/projects/{alice.project_id}/usage").status_code == 404


def test_deployments_are_counted_and_given_back(
    resources: Resources, admin: Tenant, alice: Tenant, tmp_path: Path
) -> None:
    add_version(resources, alice, tmp_path, content=b"version 1")
    limit(admin, alice, deployments=1)
    made = deploy(alice, "first").json()
    refused = deploy(alice, "second")
    assert (refused.status_code, refused.json()["details"]) == (
        409,
        {"quota": "deployments", "used": 1, "asked": 1, "limit": 1},
    )
    assert "'deployments'" in refused.json()["message"]
    alice.delete(f"/deployments/{made['id']}")
    assert used(alice, Quota.DEPLOYMENTS) == 0
    assert deploy(alice, "second").status_code == 202


def test_parallel_requests_never_exceed_a_quota(
    resources: Resources, admin: Tenant, alice: Tenant, tmp_path: Path
) -> None:
    add_version(resources, alice, tmp_path, content=b"version 1")
    limit(admin, alice, deployments=3)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda n: deploy(alice, f"d-{n}").status_code, range(8)))
    assert sorted(statuses) == [202] * 3 + [409] * 5
    assert used(alice, Quota.DEPLOYMENTS) == 3


def test_a_claim_made_twice_counts_once(resources: Resources, alice: Tenant) -> None:
    for amount in (0.1, 0.2, 0.3):
        with resources.session() as session:
            quotas.reserve(
                session,
                defaults=resources.settings.quotas,
                project_id=alice.project_id,
                owner="job_1",
                amounts={Quota.CPUS: amount},
            )
    assert used(alice, Quota.CPUS) == 0.3


def test_shares_of_a_cpu_fill_a_whole_one(resources: Resources, admin: Tenant, alice: Tenant) -> None:
    limit(admin, alice, cpus=1)
    for number in range(10):
        with resources.session() as session:
            quotas.reserve(
                session,
                defaults=resources.settings.quotas,
                project_id=alice.project_id,
                owner=f"job_{number}",
                amounts={Quota.CPUS: 0.1},
            )
    assert used(alice, Quota.CPUS) == 1


def test_bytes_come_back_after_delete_and_collection(resources: Resources, alice: Tenant) -> None:
    dataset_id = make_dataset(alice, "table")
    uploaded(alice, dataset_id, TABLE)
    model_id = make_model(alice)
    import_version(alice, model_id)
    held = used(alice, Quota.STORED_BYTES)
    blobs = resources.store.list_documents(alice.project_id)
    assert len(blobs) == 2
    uploaded(alice, dataset_id, TABLE)
    assert used(alice, Quota.STORED_BYTES) == held, "equal content is stored once"
    later(resources)
    assert resources.store.list_documents(alice.project_id) == blobs, "what a row refers to stays"
    assert alice.delete(f"/datasets/{dataset_id}").status_code == 204
    # It was stored long ago; what counts is since when it is unused.
    long_after = utc_now() + timedelta(days=30)
    collect_blobs(resources, now=lambda: long_after)
    assert used(alice, Quota.STORED_BYTES) == held, "the time of grace is not over"
    collect_blobs(resources, now=lambda: long_after + timedelta(hours=25))
    assert 0 < used(alice, Quota.STORED_BYTES) < held
    assert alice.delete(f"/models/{model_id}").status_code == 204
    later(resources)
    assert used(alice, Quota.STORED_BYTES) == 0
    assert resources.store.list_documents(alice.project_id) == []


def test_an_upload_over_the_quota_is_refused_and_stores_nothing(
    resources: Resources, admin: Tenant, alice: Tenant
) -> None:
    dataset_id, model_id = make_dataset(alice, "table"), make_model(alice)
    limit(admin, alice, stored_bytes=100)
    path = f"/datasets/{dataset_id}/versions"
    refused = alice.post(path, params={"filename": "t.csv"}, content=TABLE)
    assert (refused.status_code, refused.json()["details"]["quota"]) == (409, "stored_bytes")
    package = alice.put("/jobs/api/packages/gcs/_ray_pkg_1.zip", content=b"z" * 101)
    assert (package.status_code, package.json()["details"]["asked"]) == (409, 101)
    number = alice.post(f"/models/{model_id}/versions", json={}).json()["version"]
    artifact = alice.put(f"/models/{model_id}/versions/{number}/artifacts/a.bin", content=b"z" * 101)
    assert artifact.status_code == 409
    assert resources.store.list_documents(alice.project_id) == []
    assert alice.put("/jobs/api/packages/gcs/_ray_pkg_1.zip", content=b"z" * 100).status_code == 200
    later(resources)
    assert used(alice, Quota.STORED_BYTES) == 100


def test_bytes_of_a_deleted_project_are_collected_too(resources: Resources, alice: Tenant) -> None:
    dataset_id = make_dataset(alice, "table")
    uploaded(alice, dataset_id, TABLE)
    alice.delete(f"/datasets/{dataset_id}")
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 204
    later(resources)
    assert resources.store.list_documents(alice.project_id) == []
    with resources.session() as session:
        assert session.exec(select(QuotaClaim)).all() == []


def test_a_renewed_claim_keeps_its_blob(resources: Resources, alice: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    blob = keep_file(resources, project_id=alice.project_id, path=file)
    long_ago = utc_now() - timedelta(hours=48)
    collect_blobs(resources, now=lambda: long_ago)
    keep_file(resources, project_id=alice.project_id, path=file)
    collect_blobs(resources)
    with resources.store.open(blob.uri) as stored:
        assert stored.read() == b"content"
