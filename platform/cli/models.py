"""`raymill models`: registered models, and those that were made elsewhere."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..kernel.settings import Settings
from ..sdk import Client

app = typer.Typer(no_args_is_help=True, help="Look at models, and import your own.")
alias_app = typer.Typer(no_args_is_help=True, help="Name versions of models, such as 'champion', and move the names.")
app.add_typer(alias_app, name="alias")

Named = Annotated[str, typer.Argument(help="Name of the model.")]
Alias = Annotated[str, typer.Argument(help="The alias, such as 'champion'.")]
Project = Annotated[str, typer.Option(help="The project that the model belongs to.")]


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A model file; its name tells the format.")],
    project: Annotated[str, typer.Option(help="Project of the model; made when missing.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; the file's unless given.")] = None,
    signature: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON file with the inputs and outputs.")
    ] = None,
    example: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON file with a list of a few rows.")
    ] = None,
) -> None:
    """Register a model file as the next version of a model; all but ONNX and safetensors need a signature."""
    described, rows = (json.loads(path.read_text()) if path else None for path in (signature, example))
    with Client.from_home(Settings().home) as client:
        project_id = client.projects.from_name(project, create_if_missing=True).id
        model = client.models.from_name(name or name_of(file), project_id=project_id, create_if_missing=True)
        version = client.models.import_file(model.id, file, signature=described, example=rows)
    read = version.signature or {}
    typer.echo(f"{model.name} version {version.version} is {version.status}.")
    for role in ("inputs", "outputs"):
        typer.echo(f"{role}: {', '.join(_tensor(spec) for spec in read.get(role, []))}")
    typer.echo(f"Serve it: raymill deploy {model.name} --project {project}")


@app.command("list")
def list_models(
    project: Annotated[str | None, typer.Option(help="Only those of this project.")] = None,
) -> None:
    """List registered models."""
    with Client.from_home(Settings().home) as client:
        project_id = client.projects.from_name(project).id if project else None
        table = Table("name", "newest version", "aliases", "framework", "id")
        for model in client.models.list(project_id=project_id):
            aliases = ", ".join(f"{alias}: {version}" for alias, version in model.aliases.items())
            table.add_row(model.name, str(model.version or "none"), aliases, model.framework, model.id)
        Console(soft_wrap=True).print(table)


@alias_app.command("set")
def set_alias(
    name: Named, alias: Alias, version: Annotated[int, typer.Argument(min=1, help="Its number.")], project: Project
) -> None:
    """Let an alias name a version; deployments that follow it change over."""
    with Client.from_home(Settings().home) as client:
        client.models.set_alias(_id_of(client, name, project), alias, version)


@alias_app.command("delete")
def delete_alias(name: Named, alias: Alias, project: Project) -> None:
    """Take an alias away; what serves the version goes on."""
    with Client.from_home(Settings().home) as client:
        client.models.delete_alias(_id_of(client, name, project), alias)


def name_of(file: Path) -> str:
    """Make a name for a model or dataset of a file's name."""
    plain = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")[:40].strip("-")
    return plain or "table"


def _id_of(client: Client, name: str, project: str) -> str:
    return client.models.from_name(name, project_id=client.projects.from_name(project).id).id


def _tensor(spec: dict[str, Any]) -> str:
    return f"{spec['name']} {spec['datatype']} {spec['shape']}"
