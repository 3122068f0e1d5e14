"""`raymill deploy` and `raymill deployments`: what is served."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..kernel.settings import Settings
from ..sdk import Client
from ..sdk.deployments import Deployment
from ..sdk.errors import Conflict, NotFound

READY_WITHIN_S = 30.0
# Wider than most terminals: an endpoint is there to be copied, and must not be cut.
_WIDTH = 240


class AccessPolicy(StrEnum):
    """Who may invoke an endpoint."""

    PROJECT = "project"
    AUTHENTICATED = "authenticated"
    PUBLIC = "public"
    KEYS = "keys"


class Environment(StrEnum):
    """Where a deployment answers."""

    STAGING = "staging"
    PRODUCTION = "production"


class Tier(StrEnum):
    """How a deployment runs."""

    SERVERLESS = "serverless"
    DEDICATED = "dedicated"
    AUTO = "auto"


app = typer.Typer(no_args_is_help=True, help="Look at deployments, and change them.")

Name = Annotated[str, typer.Argument(help="Name of the deployment.")]
Project = Annotated[str, typer.Option(help="The project that it belongs to.")]
Where = Annotated[Environment, typer.Option(help="Where it answers.")]


@contextmanager
def named(name: str, project: str, environment: Environment) -> Iterator[tuple[Client, Deployment]]:
    """Log in and find a deployment by its name.

    Raises:
        NotFound: If the project has none of this name there.
    """
    with Client.from_home(Settings().home) as client:
        project_id = client.projects.from_name(project).id
        yield client, find_deployment(client, project_id=project_id, name=name, environment=environment)


def find_deployment(client: Client, *, project_id: str, name: str, environment: str = "production") -> Deployment:
    """Return the deployment of this name.

    Raises:
        NotFound: If there is none.
    """
    for found in client.deployments.list(project_id=project_id):
        if (found.name, found.environment) == (name, environment):
            return found
    raise NotFound(f"The project has no {environment} deployment named {name!r}.")


def _tell(deployment: Mapping[str, Any]) -> None:
    shares = ", ".join(f"revision {number}: {weight} %" for number, weight in deployment["traffic"].items())
    reason = f" ({deployment['reason']})" if deployment["reason"] else ""
    typer.echo(f"{deployment['status']}{reason}; {shares or 'no traffic'}")


@app.command("show")
def show(name: Name, project: Project, environment: Where = Environment.PRODUCTION) -> None:
    """Show a deployment's state, revisions, and a call to copy."""
    with named(name, project, environment) as (_, found):
        _tell(found.model_dump())
        if found.alias:
            typer.echo(f"follows the alias {found.alias!r}{f': {found.alias_reason}' if found.alias_reason else ''}")
        for revision in found.revisions:
            reason = f": {revision['reason']}" if revision["reason"] else ""
            typer.echo(
                f"revision {revision['number']}: version {revision['model_version']}, {revision['status']}{reason}"
            )
        if found.examples:
            typer.echo(f"\n{found.examples['curl']}")


@app.command("events")
def events(
    name: Name,
    project: Project,
    environment: Where = Environment.PRODUCTION,
    follow: Annotated[bool, typer.Option(help="Go on after the change under way has ended.")] = False,
) -> None:
    """Follow the states of a deployment until its change has ended."""
    with named(name, project, environment) as (client, found):
        for state in client.deployments.events(found.id, follow=follow):
            _tell(state)


@app.command("traffic")
def traffic(
    name: Name,
    weights: Annotated[list[str], typer.Argument(help="REVISION=PERCENT, which sum to 100.")],
    project: Project,
    environment: Where = Environment.PRODUCTION,
) -> None:
    """Divide the traffic among ready revisions."""
    shares = dict(_share(weight) for weight in weights)
    with named(name, project, environment) as (client, found):
        _tell(client.deployments.set_traffic(found.id, shares).model_dump())


def _share(text: str) -> tuple[int, int]:
    try:
        number, weight = map(int, text.split("="))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not REVISION=PERCENT, such as 3=90") from error
    return number, weight


@app.command("promote")
def promote(
    name: Name,
    project: Project,
    environment: Where = Environment.PRODUCTION,
    revision: Annotated[int | None, typer.Option(min=1, help="Number; the newest ready one unless given.")] = None,
) -> None:
    """Give one ready revision all traffic."""
    with named(name, project, environment) as (client, found):
        _tell(client.deployments.promote(found.id, revision).model_dump())


@app.command("rollback")
def rollback(name: Name, project: Project, environment: Where = Environment.PRODUCTION) -> None:
    """Give all traffic back to the last ready revision that had it."""
    with named(name, project, environment) as (client, found):
        _tell(client.deployments.rollback(found.id).model_dump())


@app.command("scale")
def scale(
    name: Name,
    replicas: Annotated[int, typer.Argument(min=0, help="How many; with 0 one starts when somebody asks.")],
    project: Project,
    environment: Where = Environment.PRODUCTION,
) -> None:
    """Set the replicas of a dedicated deployment."""
    with named(name, project, environment) as (client, found):
        _tell(client.deployments.scale(found.id, replicas).model_dump())


@app.command("stop")
def stop(name: Name, project: Project, environment: Where = Environment.PRODUCTION) -> None:
    """Let the endpoint answer nobody until it is started."""
    with named(name, project, environment) as (client, found):
        _tell(client.deployments.stop(found.id).model_dump())


@app.command("start")
def start(name: Name, project: Project, environment: Where = Environment.PRODUCTION) -> None:
    """Let a stopped endpoint answer again as before, and wait until it does."""
    with named(name, project, environment) as (client, found):
        client.deployments.start(found.id)
        _tell(client.deployments.wait_until_ready(found.id, timeout_s=READY_WITHIN_S).model_dump())


@app.command("delete")
def delete(name: Name, project: Project, environment: Where = Environment.PRODUCTION) -> None:
    """Take a deployment down for good."""
    with named(name, project, environment) as (client, found):
        client.deployments.delete(found.id)


@app.command("list")
def list_deployments(
    project: Annotated[str | None, typer.Option(help="Only those of this project.")] = None,
) -> None:
    """List deployments with their endpoints."""
    with Client.from_home(Settings().home) as client:
        project_id = client.projects.from_name(project).id if project else None
        table = Table("name", "environment", "status", "access", "endpoint")
        for found in client.deployments.list(project_id=project_id):
            table.add_row(found.name, found.environment, found.status, found.access["policy"], found.endpoint)
    Console(width=_WIDTH, soft_wrap=True).print(table)


def deploy(
    model: Annotated[str, typer.Argument(help="Name or id of the model.")],
    project: Annotated[str, typer.Option(help="The project that the model belongs to.")],
    name: Annotated[str | None, typer.Option(help="Name of the endpoint; the model's unless given.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Number of the version; the newest unless given.")] = None,
    alias: Annotated[str | None, typer.Option(help="Alias of the version, to be followed when it moves.")] = None,
    access: Annotated[
        AccessPolicy | None, typer.Option(help="Who may invoke; the project, or who could before, unless given.")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Id of an API key that may invoke, with --access keys; repeatable.")
    ] = None,
    environment: Annotated[Environment, typer.Option(help="Where it answers.")] = Environment.PRODUCTION,
    tier: Annotated[Tier, typer.Option(help="How a new deployment runs.")] = Tier.AUTO,
    timeout: Annotated[float | None, typer.Option(help="Seconds that an answer may take.")] = None,
    max_queued: Annotated[int | None, typer.Option(help="Requests that may wait in one model server.")] = None,
    rate_limit: Annotated[float | None, typer.Option(help="Requests a second of all callers together.")] = None,
) -> None:
    """Serve a model, or another version of it."""
    if key and access is not AccessPolicy.KEYS:
        raise typer.BadParameter("it goes with --access keys alone", param_hint="--key")
    policy = {"policy": access.value} | ({"keys": key} if key else {}) if access else None
    limit = None if rate_limit is None else {"requests_per_s": rate_limit}
    options = {"timeout_s": timeout, "max_queued": max_queued, "rate_limit": limit}
    with Client.from_home(Settings().home) as client:
        deployment = deploy_version(
            client,
            project_id=client.projects.from_name(project).id,
            name=name or model,
            model=model,
            version=version,
            alias=alias,
            access=policy,
            environment=environment,
            tier=tier,
            options={option: value for option, value in options.items() if value is not None},
        )
    typer.echo(f"{deployment.name} is {deployment.status} on {deployment.replicas} replica(s):")
    typer.echo(f"{deployment.endpoint}/predict")


def deploy_version(
    client: Client,
    *,
    project_id: str,
    name: str,
    model: str,
    version: int | None = None,
    alias: str | None = None,
    access: dict[str, Any] | None = None,
    environment: str = "production",
    tier: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Deployment:
    """Serve a model version, by a new deployment or a new revision of the one that has the name, and wait.

    Without ``access`` a new deployment is the project's, and one that exists keeps its policy.

    Raises:
        RaymillError: If the platform refuses, or it is not ready in time.
    """
    try:
        deployment = client.deployments.deploy(
            project_id=project_id,
            name=name,
            model=model,
            version=version,
            alias=alias,
            access=access or "project",
            environment=environment,
            tier=tier,
            options=options,
        )
    except Conflict as refused:
        try:
            same = find_deployment(client, project_id=project_id, name=name, environment=environment)
        except NotFound:
            raise refused from None
        if tier not in ("auto", same.tier) or not _serves(client, same, model):
            # A deployment keeps its tier and its model, and nobody should believe otherwise.
            raise
        more: dict[str, Any] = ({"access": access} if access else {}) | ({} if alias is None else {"alias": alias})
        deployment = client.deployments.update(same.id, version=version, **more, **(options or {}))
    return client.deployments.wait_until_ready(deployment.id, timeout_s=READY_WITHIN_S)


def _serves(client: Client, deployment: Deployment, model: str) -> bool:
    """Tell whether a deployment serves the model of this name or id."""
    return model in (deployment.model_id, client.models.get(deployment.model_id).name)
