"""`raymill keys`: the pair of keys with which the platform signs tokens and published documents."""

from pathlib import Path
from typing import Annotated

import typer

from ..kernel.security import make_keys

app = typer.Typer(no_args_is_help=True, help="The platform's signing keys.")


@app.callback()
def _root() -> None:
    pass


@app.command("make")
def make(folder: Annotated[Path, typer.Argument(help="Folder for signing.pem and public.pem.")]) -> None:
    """Make a pair of signing keys in a folder; a pair that is there stays."""
    make_keys(folder)
    typer.echo(f"{folder}/signing.pem (secret) and {folder}/public.pem; let RAYMILL_KEYS_DIR name their folder.")
