"""Two tenants with one of everything each: whatever one sends, no answer holds an id or a name of the other."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from starlette.testclient import WebSocketDenialResponse

from belongings import Belongings, body_of, fill, make_everything, nouns_of
from factories import make_tenant
from raymill.kernel.resources import Resources
from raymill.serving.parts import Parts
from raymill.serving.server import ModelServer
from routes import WEBSOCKET, Route, routes_of
from standing import calling, standing
from undone import undone_app
from watching import Watch, ids, operations, replaced, texts, view

pytestmark = pytest.mark.integration

JOBS_DOOR = "/v1/jobs/"

# By what else a thing can be named.
ALSO = {
    "project_id": ("project",),
    "user": ("email", "owner_id", "owner_email"),
    "user_id": ("owner_id",),
    "team": ("team_id",),
    "team_id": ("team",),
    "submission": ("job_id",),
}
# Names that each project gives for itself; those of another may be given again.
OWN_NAMES = {"put_secret": "secret", "upload_ray_package": "package", "set_registered_model_alias": "alias"}
# Numbers and words that name nothing of a tenant; files of a version go by names of its own.
NO_NAMES = {"version", "provider", "ray_path", "path"}
# Whoever knows an account's id or email may take it into an own project or team, and then sees whom.
INVITES = {"set_member", "set_team_member"}
ADMINS = {
    "get_user", "delete_user", "assign_role", "disable_user", "enable_user", "withdraw_invitation",
    "set_project_quotas",
}  # fmt: skip

# Body fields that refer to a thing, and what is tried for them.
REFERENCES = {
    "project_id": ("project_id", "project"),
    "service_account_id": ("account_id", "owner_id"),
    "endpoint": ("endpoint",),
    "dataset.id": ("dataset_id", "dataset"),
    "model": ("model_id", "model"),
    "alias": ("alias",),
    "model_version_id": ("model_version_id", "ready_version_id"),
}
# Notes that the platform keeps as they are and follows nowhere.
NOTES = {"model_id": ("model_id",), "source.id": ("job_id",)}
# Names of new things: free in an own project; those of projects and teams are the platform's, and taken.
NEW_NAMES = {"name": ("model", "dataset", "project", "team"), "experiment": ("experiment",), "model.name": ("model",)}
PLATFORM_NAMES = {"create_project": "project", "create_team": "team"}
# Names of people.
OF_PEOPLE = {("register", "name"), ("update_me", "name"), ("create_service_account", "name")}
# Texts that name nothing; a new text belongs into one of these tables.
PLAIN = {
    "current_password", "description", "email", "error", "framework", "invitation", "new_password", "password",
    "refresh_token", "signature.inputs.name", "signature.inputs.columns", "signature.inputs.nullable",
    "signature.outputs.name", "signature.outputs.columns", "signature.outputs.nullable", "signature.labels",
    "logging.redact", "routing.sticky_header", "source.filename", "token", "trainer", "value",
}  # fmt: skip
# What a deployment refuses that shares the pool, and whose revision no model server has warmed.
UNREADY = {"promote_revision", "rollback_deployment", "scale_deployment"}
QUERIES = {
    "project_id": ("project_id", "project"),
    "experiment_id": ("experiment_id",),
    "name": ("model", "dataset"),
    "actor_id": ("owner_id",),
    "object_id": ("model_id", "project_id"),
}
PLAIN_QUERIES = {
    "limit", "cursor", "filename", "type", "epoch", "status", "scope", "key", "state", "code", "error", "action",
    "object_type", "outcome", "request_id", "signature", "example", "since", "until", "follow", "revision", "seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def resources(
    migrated_url: str, redis_url: str, owner: Engine, _empty: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Resources]:
    """Open connections that this module's tests share."""
    with standing((migrated_url, redis_url), tmp_path_factory.mktemp("home"), owner, _empty) as resources:
        yield resources


@pytest.fixture(scope="module")
def client(resources: Resources) -> Iterator[TestClient]:
    """Call the control plane."""
    with calling(resources) as client:
        yield client


@pytest.fixture(scope="module")
def app(client: TestClient) -> FastAPI:
    """Return the control plane."""
    app: FastAPI = client.app  # type: ignore[assignment]
    return app


@dataclass(frozen=True)
class Tenants:
    """Two owners, what the first reads of her own, and the texts that are hers alone."""

    hers: Belongings
    his: Belongings
    seen: dict[str, str]
    secrets: set[str]


@pytest.fixture(scope="module")
def tenants(client: TestClient, resources: Resources) -> Tenants:
    """What alice and bob have."""
    hers, his = (_with_owner(make_everything(make_tenant(client, name), resources, name)) for name in ("alice", "bob"))
    seen = view(client, hers)
    return Tenants(hers, his, seen, ids(seen.values()) | ids(hers.values.values()) | {"alice"})


@pytest.fixture
def watch(client: TestClient, tenants: Tenants) -> Iterator[Watch]:
    """Return bob, who looks for what is alice's; fails at the end for all that he found, and if a thing changed."""
    watching = Watch(tenants.his, tenants.hers, client, secrets=set(tenants.secrets))
    yield watching
    assert not watching.problems, "\n".join(watching.problems)
    assert watching.changes_hers or view(client, tenants.hers) == tenants.seen


def test_the_watch_would_see_a_leak(watch: Watch) -> None:
    assert len(watch.secrets) > 20
    login = {"Authorization": f"Bearer {watch.other.tenant.tokens['access_token']}"}
    watch.ask("GET", f"/v1/projects/{watch.other.values['project_id']}", headers=login, wanted={404})
    assert "alice" in watch.problems.pop()


def test_what_a_tenant_reads_of_its_own_tells_nothing_of_another(watch: Watch, app: FastAPI) -> None:
    for route in routes_of(app):
        if route.method in ("GET", "HEAD"):
            params = body_of(route.name, watch.own.values).get("params")
            watch.ask(route.method, watch.own.path(route.path), headers=_door(route, watch.own), params=params)
    assert watch.asked > 50


def test_ids_and_names_of_another_in_paths(watch: Watch, app: FastAPI, resources: Resources) -> None:
    with undone_app(resources) as undone, TestClient(undone, root_path="/api") as unkept:
        for route in routes_of(app):
            if route.method not in (WEBSOCKET, "MOUNT"):
                _try_path(watch, route, unkept)
    assert watch.asked > 100


def _try_path(watch: Watch, route: Route, unkept: TestClient) -> None:
    nouns = [noun for noun in nouns_of(route.path).values() if noun not in NO_NAMES]
    extra = body_of(route.name, watch.own.values)
    for noun in nouns:
        for taken in (noun, *ALSO.get(noun, ())):
            sent = watch.other.values[taken]
            url = fill(route.path, watch.own.values | {noun: sent})
            if route.name in INVITES and noun == "user":
                _try_invite(watch, url, extra, unkept)
            elif OWN_NAMES.get(route.name) == noun:
                _try_name(watch, url, extra | {"headers": _door(route, watch.own)}, unkept)
            else:
                watch.ask(route.method, url, sent, _wanted(route, noun), headers=_door(route, watch.own), **extra)
    if len(nouns) > 1:
        watch.ask(route.method, watch.other.path(route.path), watch.other.values[nouns[0]], {404}, **extra)


def _wanted(route: Route, noun: str) -> set[int]:
    # The value of a secret is for jobs, whichever is meant.
    is_about_the_caller = route.name in ADMINS or (route.name == "get_secret_value" and noun == "secret")
    return {403} if is_about_the_caller else {404}


def _try_invite(watch: Watch, url: str, extra: dict[str, Any], unkept: TestClient) -> None:
    answer = unkept.put("/api" + url, headers=watch.login, **extra)
    account = {watch.other.values[name] for name in ("user", "owner_id")}
    assert answer.status_code == 200, answer.text
    assert ids([answer.text]) & watch.secrets <= account, "The account that was named is all that is told."


def _try_name(watch: Watch, url: str, extra: dict[str, Any], unkept: TestClient) -> None:
    answer = unkept.put("/api" + url, **extra | {"headers": watch.login | extra["headers"]})
    assert answer.status_code in (200, 201), answer.text
    assert not ids([answer.text]) & watch.secrets


def test_ids_and_names_of_another_in_queries(watch: Watch) -> None:
    for method, path, operation in operations(watch.client):
        for parameter in operation.get("parameters", []):
            name = parameter["name"]
            if parameter["in"] != "query" or name in PLAIN_QUERIES:
                continue
            for noun in QUERIES[name]:
                sent = watch.other.values[noun]
                answer = watch.ask(method, watch.own.path(path), sent, {200, 404}, params={name: sent})
                assert answer.status_code == 404 or answer.json()["items"] == [], f"{path}?{name}"


def test_a_page_of_another_goes_on_in_ones_own(watch: Watch) -> None:
    login = {"Authorization": f"Bearer {watch.other.tenant.tokens['access_token']}"}
    pages = 0
    for method, path, operation in operations(watch.client):
        if any(parameter["name"] == "cursor" for parameter in operation.get("parameters", [])):
            url = "/api" + watch.other.path(path)
            page = watch.client.get(url, params={"limit": 1}, headers=login).json()
            if cursor := page.get("next_cursor"):
                pages += 1
                watch.ask(method, watch.own.path(path), cursor, {200}, params={"cursor": cursor})
    assert pages > 3


def test_ids_and_names_of_another_in_bodies(watch: Watch) -> None:
    for method, path, operation in operations(watch.client):
        name = operation["operationId"]
        valid = body_of(name, watch.own.values).get("json")
        for known in sorted(texts(watch.client, operation) - PLAIN):
            for tried, wanted in _tries(watch, name, known):
                body = replaced(valid, known, tried)
                sent = tried if isinstance(tried, str) else tried[0]
                headers = {"Authorization": "", "X-API-Key": watch.own.job_key} if name == "report_result" else {}
                watch.ask(method, watch.own.path(path), sent, wanted, json=body, headers=headers)
    assert watch.asked > 25


def _tries(watch: Watch, operation: str, known: str) -> Iterator[tuple[Any, set[int]]]:
    """Yield what is tried in a field of a body, and the answers that are right."""
    values = watch.other.values
    if (operation, known) in OF_PEOPLE:
        return
    if known == "access.keys":
        yield [values["key_id"]], {404, 422}
    elif known in REFERENCES:
        wanted = {404, 422} if known in ("endpoint", "alias") else {404}
        yield from ((values[noun], wanted) for noun in REFERENCES[known])
    elif known in NOTES:
        yield from ((values[noun], {200, 201}) for noun in NOTES[known])
    else:
        taken = PLATFORM_NAMES.get(operation)
        yield from ((values[noun], {409} if noun == taken else {200, 201, 202}) for noun in NEW_NAMES[known])


def test_the_jobs_door_opens_nothing_of_another(watch: Watch, app: FastAPI) -> None:
    for route in routes_of(app):
        if route.path.startswith(JOBS_DOOR) and route.method != WEBSOCKET and "rest" not in route.path:
            for noun in ("project_id", "project"):
                sent = watch.other.values[noun]
                wanted = {200} if route.name == "get_ray_version" else {404}
                extra = body_of(route.name, watch.own.values)
                watch.ask(route.method, watch.own.path(route.path), sent, wanted,
                          headers={"X-Raymill-Project": sent}, **extra)  # fmt: skip
    for environment in (
        {"working_dir": f"gcs://{watch.other.values['package']}"},
        {"env_vars": {"TOKEN": f"secret://{watch.other.values['secret']}"}},
    ):
        program = {"entrypoint": "true", "runtime_env": environment}
        sent = str(next(iter(environment.values()))).removeprefix("gcs://")
        sent = watch.other.values["secret"] if "secret" in sent else sent
        door = {"X-Raymill-Project": watch.own.values["project"]}
        watch.ask("POST", "/v1/jobs/api/jobs/", sent, {404}, json=program, headers=door)


def test_the_output_of_anothers_job_is_not_followed(watch: Watch) -> None:
    door = {"X-Raymill-Project": watch.own.values["project"]}
    for name in (watch.other.values["submission"], watch.other.values["job_id"]):
        url = f"/api/v1/jobs/api/jobs/{name}/logs/tail"
        following = watch.client.websocket_connect(url, headers=watch.login | door)
        with pytest.raises(WebSocketDenialResponse) as refused, following:
            pass
        assert refused.value.status_code == 404


def test_endpoints_of_another_are_not_there(watch: Watch, resources: Resources) -> None:
    own, other = watch.own.values["endpoint"], watch.other.values["endpoint"]
    answers = asyncio.run(_ask_the_data_plane(resources, watch.own, [own, other]))
    for (name, what), answer in answers.items():
        told = (answer.text + str(dict(answer.headers))).replace(name, "").lower()
        assert not [secret for secret in watch.secrets if secret in told], f"{name} {what}: {answer.text}"
        if name == other:
            assert answer.status_code == 404, f"{what}: {answer.text}"
        elif what == "POST /versions/1/infer":  # of a revision that is being warmed, so it has no traffic yet
            assert answer.status_code == 200, answer.text


async def _ask_the_data_plane(
    resources: Resources, own: Belongings, names: list[str]
) -> dict[tuple[str, str], httpx.Response]:
    server = ModelServer(Parts.open(resources.settings))
    await server.start()
    row = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    headers = {"Authorization": f"Bearer {own.tenant.tokens['access_token']}"}
    answers = {}

    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://plane") as client:
            for path in ("/v2", "/v2/health/ready", "/version", "/nowhere", "/v2/models"):
                answers["", path] = await client.get(path, headers=headers)
            for name in names:
                for door in ("", "/ready", "/versions/1", "/versions/1/ready", "/stats"):
                    answers[name, door] = await client.get(f"/v2/models/{name}{door}", headers=headers)
                for door in ("/infer", "/predict", "/versions/1/infer"):
                    url = f"/v2/models/{name}{door}"
                    answers[name, f"POST {door}"] = await client.post(url, headers=headers, json=row)
    finally:
        await server.stop()
    return answers


def test_a_repeated_idempotency_key_of_another_means_nothing(watch: Watch) -> None:
    watch.changes_hers = True
    login = {"Authorization": f"Bearer {watch.other.tenant.tokens['access_token']}"}
    for method, path, operation in operations(watch.client):
        name = operation["operationId"]
        if any(parameter["name"] == "idempotency-key" for parameter in operation.get("parameters", [])):
            shared = {"Idempotency-Key": f"shared {name}"}
            hers = _renamed(body_of(name, watch.other.values), "hers")
            first = watch.client.request(method, "/api" + watch.other.path(path), headers=login | shared, **hers)
            wanted = {409, 422} if name in UNREADY else {201, 202}
            assert first.status_code in wanted, first.text
            watch.secrets |= ids([first.text])
            own = _renamed(body_of(name, watch.own.values), "his")
            watch.ask(method, watch.own.path(path), wanted=wanted, headers=shared, **own)


def _renamed(request: dict[str, Any], name: str) -> dict[str, Any]:
    body = request.get("json", {})
    return {"json": body | {"name": f"shared-{name}"} if "name" in body else body}


def _with_owner(made: Belongings) -> Belongings:
    made.values["owner_id"] = made.tenant.user_id
    made.values["owner_email"] = f"{made.mark}@example.com"
    return made


def _door(route: Route, own: Belongings) -> dict[str, str]:
    return {"X-Raymill-Project": own.values["project"]} if route.path.startswith(JOBS_DOOR) else {}
