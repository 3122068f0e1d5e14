"""`raymill deploy` and `raymill deployments`: what is served."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..kernel.settings import Settings
from ..sdk import Client
from ..sdk.deployments import Deployment
from ..sdk.errors import Conflict

READY_WITHIN_S = 30.0
# Wider than most terminals: an endpoint is there to be copied, and must not be cut.
_WIDTH = 240


class AccessPolicy(StrEnum):
    """Who may invoke an endpoint."""

    PROJECT = "project"
    AUTHENTICATED = "authenticated"
    PUBLIC = "public"
    KEYS = "keys"


app = typer.Typer(no_args_is_help=True, help="Look at deployments.")


@app.callback()
def _root() -> None:
    pass


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
    access: Annotated[
        AccessPolicy | None, typer.Option(help="Who may invoke; the project, or who could before, unless given.")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Id of an API key that may invoke, with --access keys; repeatable.")
    ] = None,
) -> None:
    """Serve a model, or another version of it."""
    if key and access is not AccessPolicy.KEYS:
        raise typer.BadParameter("it goes with --access keys alone", param_hint="--key")
    policy = {"policy": access.value} | ({"keys": key} if key else {}) if access else None
    with Client.from_home(Settings().home) as client:
        project_id = client.projects.from_name(project).id
        deployment = deploy_version(
            client, project_id=project_id, name=name or model, model=model, version=version, access=policy
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
    access: dict[str, Any] | None = None,
) -> Deployment:
    """Serve a model version, by a new deployment or a new revision of the one that has the name, and wait.

    Without ``access`` a new deployment is the project's, and one that exists keeps its policy.

    Raises:
        RaymillError: If the platform refuses, or it is not ready in time.
    """
    try:
        deployment = client.deployments.deploy(
            project_id=project_id, name=name, model=model, version=version, access=access or "project"
        )
    except Conflict:
        deployments = client.deployments.list(project_id=project_id)
        same = [found for found in deployments if (found.name, found.environment) == (name, "production")]
        if not same:
            raise
        more = {"access": access} if access else {}
        deployment = client.deployments.update(same[0].id, version=version, **more)
    return client.deployments.wait_until_ready(deployment.id, timeout_s=READY_WITHIN_S)
