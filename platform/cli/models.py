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


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A model file; its name tells the format.")],
    project: Annotated[str, typer.Option(help="Project of the model; made when missing.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; the file's unless given.")] = None,
    signature: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON file with the inputs and outputs.")
    ] = None,
) -> None:
    """Register a model file as the next version of a model; all but ONNX and safetensors need a signature."""
    given = json.loads(signature.read_text()) if signature else None
    with Client.from_home(Settings().home) as client:
        project_id = client.projects.from_name(project, create_if_missing=True).id
        model = client.models.from_name(name or name_of(file), project_id=project_id, create_if_missing=True)
        version = client.models.import_file(model.id, file, signature=given)
    described = version.signature or {}
    typer.echo(f"{model.name} version {version.version} is {version.status}.")
    for role in ("inputs", "outputs"):
        typer.echo(f"{role}: {', '.join(_tensor(spec) for spec in described.get(role, []))}")
    typer.echo(f"Serve it: raymill deploy {model.name} --project {project}")


@app.command("list")
def list_models(
    project: Annotated[str | None, typer.Option(help="Only those of this project.")] = None,
) -> None:
    """List registered models."""
    with Client.from_home(Settings().home) as client:
        project_id = client.projects.from_name(project).id if project else None
        table = Table("name", "newest version", "framework", "id")
        for model in client.models.list(project_id=project_id):
            table.add_row(model.name, str(model.version or "none"), model.framework, model.id)
        Console(soft_wrap=True).print(table)


def name_of(file: Path) -> str:
    """Make a name for a model or dataset of a file's name."""
    plain = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")[:40].strip("-")
    return plain or "table"


def _tensor(spec: dict[str, Any]) -> str:
    return f"{spec['name']} {spec['datatype']} {spec['shape']}"
