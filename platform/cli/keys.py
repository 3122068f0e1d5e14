"""`raymill keys`: the pair of keys with which the platform signs tokens and published documents."""

from pathlib import Path
from typing import Annotated

import typer

from ..kernel.envelope import rotate_master_key
from ..kernel.keyfiles import make_keys, rotate_keys
from ..kernel.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The platform's signing keys.")

KeysFolder = Annotated[Path | None, typer.Argument(help="Folder of the keys; the platform's own if none is given.")]


@app.command("make")
def make(folder: Annotated[Path, typer.Argument(help="Folder for signing.pem, public.pem and master.keys.")]) -> None:
    """Make a pair of signing keys and the master key of secrets in a folder; what is there stays."""
    make_keys(folder)
    made = "signing.pem and master.keys (secret) and public.pem"
    typer.echo(f"{folder}: {made}; let RAYMILL_KEYS_DIR name the folder.")


@app.command("rotate")
def rotate(
    folder: KeysFolder = None,
) -> None:
    """Replace the pair by a new one; what the old one signed is accepted until the next rotation."""
    where = folder or Settings().keys_dir
    new = rotate_keys(where)
    typer.echo(f"{where} signs with the key {new} now; running processes follow within a second.")


@app.command("rotate-master")
def rotate_master(
    folder: KeysFolder = None,
) -> None:
    """Add a master key for the secrets of projects; those that exist are wrapped anew within the hour."""
    where = folder or Settings().keys_dir
    rotate_master_key(where)
    typer.echo(f"{where}/master.keys has a new last line; the lines above it are needed for an hour more.")
