"""A tenant who owns one of everything, and a valid request for every route about it."""

import io
import zipfile
from dataclasses import dataclass
from typing import Any

from data_makers import make_dataset, uploaded
from factories import PASSWORD, Tenant, register
from onnx_makers import linear_onnx
from raymill.auth import keys
from raymill.auth.invitations import invite
from raymill.auth.permissions import JOB_PERMISSIONS
from raymill.auth.schemas import InvitationCreate
from raymill.kernel.resources import Resources
from registry_makers import import_version, make_draft, make_model

TABLE = b"width,height,kind\n" + b"".join(f"{n},{n * 2},{'ab'[n % 2]}\n".encode() for n in range(20))

# Which of the belongings a parameter means where its own name does not say so.
_MEANT = {
    "/secrets/{name}": "secret",
    "/api/jobs/{name}": "submission",
    "/gcs/{name}": "package",
    "/{rest:path}": "ray_path",
}


@dataclass(frozen=True)
class Belongings:
    """What a tenant has, by the names of the routes' parameters; every name in it holds ``mark``."""

    tenant: Tenant
    mark: str
    values: dict[str, str]
    job_key: str
    key: str

    def path(self, template: str) -> str:
        """Fill the parameters of a route's path."""
        return fill(template, self.values)


def nouns_of(template: str) -> dict[str, str]:
    """Map each parameter of a path, as it is written there, to the belonging that it means."""
    found = {}
    for part in template.split("/"):
        if part.startswith("{"):
            meant = next((noun for ending, noun in _MEANT.items() if f"{ending}" in template and part in ending), None)
            found[part] = meant or part.strip("{}").partition(":")[0]
    return found


def fill(template: str, values: dict[str, str]) -> str:
    """Put values into the parameters of a path."""
    path = template
    for part, noun in nouns_of(template).items():
        path = path.replace(part, values[noun])
    return path


def make_everything(tenant: Tenant, resources: Resources, mark: str) -> Belongings:
    """Give a tenant one of everything; the project is named ``<mark>-project``."""
    values = {"project_id": tenant.project_id, "project": f"{mark}-project", "version": "1", "provider": mark}
    values |= {"ray_path": f"nodes/{mark}", "secret": f"{mark}-secret", "team": f"{mark}-team"}
    values |= {"submission": f"{mark}-nightly", "package": f"_ray_pkg_{mark}.zip", "path": f"{mark}.onnx"}
    values |= _data_and_models(tenant, mark) | _people(tenant, resources, mark) | _work(tenant, values, mark)
    values |= _deployment(tenant, values, mark)
    secret = _created(tenant, "/api-keys", name=f"{mark}-key", project_id=tenant.project_id, permissions=["key:write"])
    with resources.session() as session:
        _, job_key = keys.create_key(
            session,
            name=f"{mark}-job",
            project_id=tenant.project_id,
            permissions=sorted(JOB_PERMISSIONS),
            created_by=tenant.user_id,
            job_id=values["job_id"],
        )
    made = Belongings(tenant, mark, values | {"key_id": secret["id"]}, job_key, secret["key"])
    _checkpoint(made)
    return made


def body_of(name: str, values: dict[str, str]) -> dict[str, Any]:
    """Return what a valid request to a route brings: ``json``, ``content``, ``params`` or ``headers``."""
    mine = {"project_id": values["project_id"]}
    bodies: dict[str, Any] = {
        "register": {"email": "new@example.com", "name": "New", "password": "short"},
        "login": {"email": "nobody@example.com", "password": ""},
        "refresh_token": {"refresh_token": "rt_unknown"},
        "validate_token": {"token": "unknown"},
        # Refused as too long, before anything is hashed.
        "change_password": {"current_password": PASSWORD, "new_password": "x" * 2000},
        "update_me": {"preferences": {"theme": "dark"}},
        "create_invitation": {"email": "invited@example.com"},
        "assign_role": {"role": "viewer"},
        "create_service_account": {"name": "another"},
        "create_api_key": mine | {"name": "another", "permissions": ["key:write"]},
        "rotate_api_key": {},
        "create_project": {"name": "another"},
        "update_project": {"description": "new"},
        "set_project_quotas": {"concurrent_jobs": 3},
        "set_member": {"role": "viewer"},
        "put_secret": {"value": "hidden"},
        "create_team": {"name": "another"},
        "update_team": {"description": "new"},
        "set_team_member": {"role": "member"},
        "set_project_team": {"role": "developer"},
        "create_dataset": mine | {"name": "another"},
        "update_dataset": {"description": "new"},
        "create_model": mine | {"name": "another"},
        "update_model": {"description": "new"},
        "create_model_version": {"source": {"kind": "manual"}},
        "complete_model_version": {},
        "fail_model_version": {"error": "given up"},
        "set_registered_model_alias": {"version": 2},
        "create_experiment": mine | {"name": "another"},
        "create_run": mine | {"experiment": "another"},
        "finish_run": {},
        "log_metrics": {"step": 1, "metrics": {"loss": 0.5}},
        "start_training": training(values),
        "report_progress": {"epoch": 1, "total_epochs": 4},
        "report_result": {"model_version_id": values["model_version_id"]},
        "deploy_model": mine | {"name": "another", "model": values["model"]},
        "update_deployment": {"version": 2},
        "scale_deployment": {"replicas": 2},
        "set_deployment_traffic": {"weights": {"1": 100}},
        "promote_revision": {},
        "submit_ray_job": {"entrypoint": "true"},
    }
    files: dict[str, dict[str, Any]] = {
        "stream_deployment_events": {"params": {"seconds": 0}},
        "upload_dataset": {"content": TABLE, "params": {"filename": "new.csv"}},
        "import_model_version": {"content": linear_onnx(), "params": {"filename": "new.onnx"}},
        "upload_model_artifact": {"content": linear_onnx()},
        "put_checkpoint": {"content": b"state", "params": {"epoch": 2}},
        "upload_ray_package": {"content": package()},
        "login_by_form": {"data": {"username": "nobody@example.com", "password": "x"}},
    }
    return files.get(name) or ({"json": bodies[name]} if name in bodies else {})


def training(values: dict[str, str]) -> dict[str, Any]:
    """Return the body of a training job on the tenant's dataset."""
    return {
        "project_id": values["project_id"],
        "framework": "pytorch",
        "trainer": "tabular-classifier",
        "dataset": {"id": values["dataset_id"]},
        "model": {"name": values["model"]},
        "hyperparameters": {"target": "kind", "epochs": 4},
        "resources": {"num_workers": 1},
    }


def package() -> bytes:
    """Return a small archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("main.py", "print(1)")
    return buffer.getvalue()


def _created(tenant: Tenant, path: str, **body: Any) -> dict[str, Any]:
    answer = tenant.post(path, json=body)
    assert answer.status_code in (200, 201, 202), answer.text
    made: dict[str, Any] = answer.json()
    return made


def _data_and_models(tenant: Tenant, mark: str) -> dict[str, str]:
    dataset_id = make_dataset(tenant, f"{mark}-table")
    version = uploaded(tenant, dataset_id, TABLE)
    model_id = make_model(tenant, f"{mark}-model")
    draft = make_draft(tenant, model_id)
    stored = tenant.put(f"/models/{model_id}/versions/1/artifacts/{mark}.onnx", content=linear_onnx())
    assert stored.status_code == 200, stored.text
    ready = import_version(tenant, model_id)
    named = tenant.put(f"/models/{model_id}/aliases/{mark}-champion", json={"version": 2})
    assert named.status_code == 200, named.text
    return {
        "dataset_id": dataset_id,
        "dataset": f"{mark}-table",
        "dataset_version_id": version["id"],
        "model_id": model_id,
        "alias": f"{mark}-champion",
        "model": f"{mark}-model",
        "model_version_id": draft["id"],
        "ready_version_id": ready["id"],
        "artifact_id": stored.json()["id"],
    }


def _people(tenant: Tenant, resources: Resources, mark: str) -> dict[str, str]:
    friend = register(tenant.client, f"{mark}-friend")["user"]
    project = f"/projects/{tenant.project_id}"
    assert tenant.put(f"{project}/members/{friend['id']}", json={"role": "viewer"}).status_code == 200
    team = _created(tenant, "/teams", name=f"{mark}-team")
    assert tenant.put(f"/teams/{team['id']}/members/{friend['id']}", json={}).status_code == 200
    assert tenant.put(f"{project}/teams/{team['id']}", json={"role": "viewer"}).status_code == 204
    robot = _created(tenant, f"{project}/service-accounts", name=f"{mark}-robot")
    assert tenant.put(f"{project}/secrets/{mark}-secret", json={"value": f"{mark}-hidden"}).status_code == 200
    with resources.session() as session:
        data = InvitationCreate.model_validate({"email": f"{mark}-guest@example.com"})
        invitation, _ = invite(session, data=data, invited_by=tenant.user_id, settings=resources.settings.auth)
    return {
        "user": friend["id"],
        "user_id": friend["id"],
        "email": friend["email"],
        "team_id": team["id"],
        "account_id": robot["id"],
        "invitation_id": invitation.id,
    }


def _work(tenant: Tenant, values: dict[str, str], mark: str) -> dict[str, str]:
    mine = {"project_id": tenant.project_id}
    experiment = _created(tenant, "/experiments", name=f"{mark}-experiment", **mine)
    run = _created(tenant, "/runs", experiment=f"{mark}-experiment", name=f"{mark}-run", **mine)
    dataset = tenant.get("/datasets", params=mine).json()["items"][0]["id"]
    known = values | {"dataset_id": dataset, "model": f"{mark}-model"}
    job = _created(tenant, "/training-jobs", **training(known) | {"name": f"{mark}-job"})
    sent = tenant.put(f"/jobs/api/packages/gcs/{values['package']}", content=package())
    assert sent.status_code == 200, sent.text
    program = {"entrypoint": f"python {mark}.py", "submission_id": values["submission"]}
    environment = {"working_dir": f"gcs://{values['package']}"}
    _created(tenant, "/jobs/api/jobs/", **program, runtime_env=environment)
    return {
        "experiment_id": experiment["id"],
        "experiment": f"{mark}-experiment",
        "run_id": run["id"],
        "job_id": job["id"],
    }


def _deployment(tenant: Tenant, values: dict[str, str], mark: str) -> dict[str, str]:
    body = {"project_id": tenant.project_id, "name": f"{mark}-reader", "model": values["model"], "version": 2}
    made = _created(tenant, "/deployments", **body)
    return {"deployment_id": made["id"], "deployment": f"{mark}-reader", "endpoint": f"{mark}-project.{mark}-reader"}


def _checkpoint(made: Belongings) -> None:
    where = f"/training-jobs/{made.values['job_id']}/checkpoint"
    headers = {"X-API-Key": made.job_key, "Authorization": ""}
    stored = made.tenant.put(where, content=b"state", params={"epoch": 1}, headers=headers)
    assert stored.status_code == 200, stored.text


__all__ = ["Belongings", "body_of", "fill", "make_everything", "nouns_of"]
