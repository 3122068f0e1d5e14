"""Every route of every app: closed to the nameless, and open to each role and key as the permission table says."""

import ast
import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from starlette.testclient import WebSocketDenialResponse

from belongings import Belongings, body_of, make_everything
from factories import make_tenant
from principals import Who, everybody, keys_for
from raymill.auth.deps import CurrentPrincipal
from raymill.auth.errors import CredentialsRequired
from raymill.auth.needs import Caller
from raymill.auth.permissions import JOB_PERMISSIONS, ROLES, Permission, ProjectRole
from raymill.kernel.resources import Resources
from raymill.kernel.settings import Settings
from raymill.projects.deps import ProjectReader
from raymill.serve_apps import console
from raymill.serving.parts import Parts
from raymill.serving.server import ModelServer
from routes import WEBSOCKET, Route, routes_of, undeclared
from standing import calling, standing
from undone import undone_app

pytestmark = pytest.mark.integration

PUBLIC = {
    "GET /openapi.json", "HEAD /openapi.json", "GET /docs", "MOUNT /docs/assets",
    "GET /healthz", "GET /readyz", "GET /metrics",
    "POST /v1/auth/register", "POST /v1/auth/login", "POST /v1/auth/token", "POST /v1/auth/refresh",
    "POST /v1/auth/validate", "GET /v1/auth/jwks",
    "GET /v1/auth/sso", "GET /v1/auth/sso/{provider}/login", "GET /v1/auth/sso/{provider}/callback",
}  # fmt: skip
PUBLIC_OF_THE_DATA_PLANE = {"/v2", "/v2/health/live", "/v2/health/ready", "/version", "/"}
# They show each caller its own endpoints.
OVERVIEWS = {"/v2/models/stats", "/v2/repository/index"}
REFUSED_TO_ALL = {"/v2/repository/{rest:path}", "/v2/{extension}/{rest:path}"}
DOORS = [
    (method, version + door)
    for version in ("", "/versions/1")
    for method, door in [
        ("GET", ""), ("GET", "/ready"), ("GET", "/config"), ("GET", "/stats"), ("POST", "/infer"), ("POST", "/predict"),
    ]
] + [("GET", "/openapi.json"), ("POST", "/feedback")]  # fmt: skip

PLATFORM = frozenset(Permission) - ROLES[ProjectRole.OWNER] - JOB_PERMISSIONS
# Keys act by their makers' membership, which an administrator need not have.
BY_MEMBERSHIP = {"create_api_key", "rotate_api_key"}
NOT_THERE_FOR_ANYBODY = {"refuse_ray_interface"}
# The key of a project is in no team.
OF_TEAMS = {"set_project_team"}


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


@pytest.fixture(scope="module")
def mine(client: TestClient, resources: Resources) -> Belongings:
    """What alice has."""
    return make_everything(make_tenant(client, "alice"), resources, "alice")


@pytest.fixture(scope="module")
def people(client: TestClient, resources: Resources, mine: Belongings) -> list[Who]:
    """Return everybody who may come to alice's door."""
    return everybody(client, resources, mine)


@pytest.fixture(scope="module")
def undone(resources: Resources) -> Iterator[FastAPI]:
    """The control plane on a database that keeps nothing."""
    with undone_app(resources) as app:
        yield app


def request_to(route: Route, mine: Belongings) -> dict[str, Any]:
    """Return a valid request, as arguments of a client."""
    extra = body_of(route.name, mine.values)
    return {"method": route.method, "url": "/api" + mine.path(route.path)} | extra


def outcome(route: Route, who: Who) -> tuple[int, str] | None:
    """Return status and missing right of the refusal that the table demands, None where it demands none."""
    if Caller.PERSON in route.callers and who.kind != "user":
        return 403, ""
    if route.callers & {Caller.TEAM_MEMBER, Caller.TEAM_OWNER} and not who.is_admin:
        if who.team is None:
            return 404, ""
        return (403, "team:admin") if Caller.TEAM_OWNER in route.callers and who.team != "owner" else None
    for permission in route.permissions:
        if permission in PLATFORM:
            if permission not in who.platform:
                return 403, permission
        elif not who.held:
            return 404, ""
        elif permission not in who.held:
            return 403, permission
    is_wrong_kind = Caller.JOB in route.callers and who.kind != "job"
    return (403, "") if is_wrong_kind or (who.is_admin and route.name in BY_MEMBERSHIP) else None


def test_every_route_declares_what_it_asks_for(app: FastAPI) -> None:
    assert undeclared(routes_of(app), PUBLIC) == []


def test_the_list_of_public_routes_holds_nothing_else(app: FastAPI) -> None:
    routes = routes_of(app)
    assert {str(route) for route in routes} >= PUBLIC
    assert [str(route) for route in routes if route.needs and str(route) in PUBLIC] == []


def test_a_route_that_declares_nothing_is_found() -> None:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.get("/declared/{project_id}")(_declared)
    app.post("/forgotten")(_forgotten)
    app.websocket("/forgotten/tail")(_forgotten_socket)
    assert undeclared(routes_of(app), set()) == ["POST /forgotten", "WEBSOCKET /forgotten/tail"]


def _declared(project: ProjectReader) -> None: ...


def _forgotten(principal: CurrentPrincipal) -> None: ...


def _forgotten_socket(name: str) -> None: ...


def test_every_app_with_a_route_is_walked() -> None:
    apps = yaml.safe_load(Path(__file__).parents[1].joinpath("apps.yaml").read_text())["applications"]
    doors = {app["name"]: app["route_prefix"] for app in apps}
    assert doors == {"api": "/api", "inference": "/", "console": "/console", "controller": None}


def test_the_console_is_one_public_page() -> None:
    app = console._asgi()
    assert [route.path for route in app.routes] == ["/{path:path}"]
    assert TestClient(app).get("/").status_code == 200


def test_the_nameless_come_to_public_routes_alone(undone: FastAPI, mine: Belongings) -> None:
    async def walk() -> None:
        async with _client(undone) as client:
            for route in routes_of(undone):
                if route.method not in (WEBSOCKET, "MOUNT"):
                    answer = await client.request(**request_to(route, mine))
                    assert _asks_for_a_login(answer, route) is (str(route) not in PUBLIC), f"{route}: {answer.text}"

    asyncio.run(walk())


def _asks_for_a_login(answer: httpx.Response, route: Route) -> bool:
    if answer.status_code == 401 and route.method == "HEAD":
        return True
    wants = answer.status_code == 401 and answer.json()["message"] == CredentialsRequired().message
    assert not wants or answer.headers["WWW-Authenticate"] == "Bearer"
    return wants


def test_each_role_comes_as_far_as_the_table_says(undone: FastAPI, mine: Belongings, people: list[Who]) -> None:
    routes = _guarded(undone)
    problems = asyncio.run(_walk(undone, mine, [(route, _meet(n, route, people)) for n, route in enumerate(routes)]))
    assert not problems, "\n".join(problems)


def test_a_key_opens_what_its_permissions_say(undone: FastAPI, resources: Resources, mine: Belongings) -> None:
    asked = {route: tuple(route.permissions) or tuple(_shown(route)) for route in _guarded(undone)}
    keys = {needed: keys_for(resources, mine, needed) for needed in set(asked.values())}
    problems = asyncio.run(_walk(undone, mine, [(route, keys[needed]) for route, needed in asked.items()]))
    assert not problems, "\n".join(problems)


def _meet(number: int, route: Route, people: list[Who]) -> list[Who]:
    """Let everybody try a route that asks for no right in a project; at the others the strangers take turns."""
    strangers = [who for who in people if not who.held]
    is_projects = bool(set(route.permissions) - PLATFORM) or bool(_shown(route))
    turn = [strangers[number % len(strangers)]] if is_projects else strangers
    return [who for who in people if who.held] + turn


def _guarded(app: FastAPI) -> list[Route]:
    """Return the routes that declare a need, each function once."""
    found = [route for route in routes_of(app) if route.needs and route.method not in (WEBSOCKET, "HEAD")]
    return list({route.name: route for route in found}.values())


def _shown(route: Route) -> list[Permission]:
    return [need.shown for need in route.needs if need.shown is not None]


async def _walk(app: FastAPI, mine: Belongings, plan: list[tuple[Route, list[Who]]]) -> list[str]:
    async with _client(app) as client:
        return [
            problem
            for route, people in plan
            for request in [request_to(route, mine)]
            for problem in await asyncio.gather(*(_problem(client, route, request, who) for who in people))
            if problem is not None
        ]


async def _problem(client: httpx.AsyncClient, route: Route, request: dict[str, Any], who: Who) -> str | None:
    """Say what is wrong with the answer to one request, None when it is what the table says."""
    headers = who.headers | ({"X-Raymill-Project": "alice-project"} if "/jobs/api" in route.path else {})
    answer = await client.request(**request, headers=headers)
    wanted = outcome(route, who)
    said = f"{route} as {who.name}: {answer.status_code} {answer.text[:300]}, and the table says {wanted}"
    if wanted is None:
        return None if _is_let_in(route, who, answer) else said
    status, permission = wanted
    if answer.status_code != status or (route.method != "HEAD" and not _names(answer, permission)):
        return said
    return None


def _names(answer: httpx.Response, permission: str) -> bool:
    refusal = answer.json()
    return not permission or (
        refusal["details"].get("permission") == permission
        and (permission in refusal["message"] or permission == "team:admin")
    )


def _is_let_in(route: Route, who: Who, answer: httpx.Response) -> bool:
    if route.name in NOT_THERE_FOR_ANYBODY or (route.name in OF_TEAMS and who.kind == "key"):
        return answer.status_code == 404
    if shown := set(_shown(route)):
        return answer.status_code == 200 and bool(answer.json()["items"]) is bool(who.held & shown)
    return answer.status_code < 500 and answer.status_code not in (401, 403, 404, 405, 429)


def test_a_jobs_output_is_followed_by_its_readers_alone(undone: FastAPI, mine: Belongings, people: list[Who]) -> None:
    [route] = [route for route in routes_of(undone) if route.method == WEBSOCKET]
    with TestClient(undone, root_path="/api") as asking:
        for who in [Who("nobody", {}), *people]:
            status = _opened(asking, mine.path(route.path), who.headers | {"X-Raymill-Project": "alice-project"})
            wanted = outcome(route, who) if who.headers else (401, "")
            assert status == (wanted[0] if wanted else 101), who.name


def _opened(client: TestClient, path: str, headers: dict[str, str]) -> int:
    try:
        with client.websocket_connect("/api" + path, headers=headers):
            return 101
    except WebSocketDenialResponse as refused:
        return refused.status_code


def _paths_of_the_data_plane() -> list[str]:
    """Read from the model server's own source which paths it answers; it has no router to ask."""
    return [*_paths_of(ModelServer._route), *_paths_of(ModelServer._state), *_paths_of(ModelServer._describe, "/v2")]


def _paths_of(method: Callable[..., Any], prefix: str = "") -> list[str]:
    tree = ast.parse(inspect.getsource(method).replace("\n    ", "\n").lstrip())
    cases = [case.pattern for node in ast.walk(tree) if isinstance(node, ast.Match) for case in node.cases]
    paths = [case.patterns for case in cases if isinstance(case, ast.MatchSequence)]
    # What another method parts further says nothing itself.
    return [f"{prefix}/" + "/".join(map(_segment, path)) for path in paths if not _is_handed_on(path)]


def _is_handed_on(path: list[ast.pattern]) -> bool:
    return any(isinstance(part, ast.MatchOr) for part in path) and isinstance(path[-1], ast.MatchStar)


def _segment(pattern: ast.pattern) -> str:
    match pattern:
        case ast.MatchValue(value=ast.Constant(value=text)):
            return str(text)
        case ast.MatchAs(pattern=ast.MatchOr(), name=name) | ast.MatchAs(pattern=None, name=name):
            return "{" + str(name) + "}"
        case ast.MatchStar(name=name):
            return "{" + str(name or "rest") + ":path}"
        case _:
            raise AssertionError(f"The walk cannot read {ast.dump(pattern)}.")


def test_every_path_of_the_data_plane_is_public_or_an_endpoints() -> None:
    paths = set(_paths_of_the_data_plane())
    assert paths >= PUBLIC_OF_THE_DATA_PLANE | OVERVIEWS
    others = paths - PUBLIC_OF_THE_DATA_PLANE - OVERVIEWS - REFUSED_TO_ALL
    assert all(path.startswith("/v2/models/{name}/") for path in others), others


def test_each_role_and_key_calls_the_endpoint_as_the_table_says(
    resources: Resources, mine: Belongings, people: list[Who]
) -> None:
    callers = people + keys_for(resources, mine, [Permission.ENDPOINT_INVOKE])
    problems = asyncio.run(_call_all(resources.settings, mine.values["endpoint"], callers))
    assert not problems, "\n".join(problems)


async def _call_all(settings: Settings, endpoint: str, people: list[Who]) -> list[str]:
    server = ModelServer(Parts.open(settings))
    await server.start()
    row = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    problems = []
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://plane") as client:
            for path in PUBLIC_OF_THE_DATA_PLANE:
                answer = await client.get(path)
                problems += [f"{path}: {answer.text}"] if answer.status_code not in (200, 307) else []
            for method, door in DOORS:
                for who in [Who("nobody", {}), *people]:
                    body = {} if method == "GET" else {"json": row}
                    answer = await client.request(method, f"/v2/models/{endpoint}{door}", headers=who.headers, **body)
                    if not _is_as_the_grants_say(answer, who):
                        problems.append(f"{method} {door} as {who.name}: {answer.status_code} {answer.text}")
            for method, path in [("GET", "/v2/models/stats"), ("POST", "/v2/repository/index")]:
                for who in [Who("nobody", {}), *people]:
                    answer = await client.request(method, path, headers=who.headers)
                    is_shown = answer.status_code == 200 and endpoint in answer.text
                    if answer.status_code != (200 if who.headers else 401) or is_shown is not _may_invoke(who):
                        problems.append(f"{method} {path} as {who.name}: {answer.status_code} {answer.text}")
    finally:
        await server.stop()
    return problems


def _may_invoke(who: Who) -> bool:
    return Permission.ENDPOINT_INVOKE in who.held


def _is_as_the_grants_say(answer: httpx.Response, who: Who) -> bool:
    if not who.headers:
        return answer.status_code == 401
    if not who.held:
        return answer.status_code == 404
    if _may_invoke(who):
        return answer.status_code not in (401, 403, 404)
    return answer.status_code == 403 and answer.json()["details"] == {"permission": "endpoint:invoke"}


def _client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path="/api")
    return httpx.AsyncClient(transport=transport, base_url="http://raymill")
