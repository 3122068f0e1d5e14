"""`raymill up | down`: the life of the platform on this machine."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..compute.embedded.stack import Stack
from ..kernel.settings import Settings
from .joined import RayAddress, RayToken, RayTokenFile, joined
from .login import log_in
from .progress import ProgressLines

ADMIN_EMAIL = "admin@raymill.dev"

AppsFile = Annotated[Path | None, typer.Option("--apps", help="Ray Serve configuration, instead of apps.yaml.")]


def up(
    ray_address: RayAddress = None,
    ray_token_file: RayTokenFile = None,
    ray_token: RayToken = None,
    apps: AppsFile = None,
) -> None:
    """Start the platform, or what is missing of it."""
    console = Console()
    settings = joined(Settings(), ray_address, ray_token_file, ray_token)
    first_password: list[str] = []
    try:
        with ProgressLines(console) as progress:
            stack = Stack(settings, report=progress, apps_path=apps)
            settings = stack.up(lambda ready: first_password.extend(_prepare(ready)))
    finally:
        # also when a later part failed: the account is made and nothing else knows its password
        for password in first_password:
            console.print(f"\nFirst start: account [bold]{ADMIN_EMAIL}[/bold], password [bold]{password}[/bold]")
            console.print("The password is not shown again.")
    for password in first_password:
        log_in(settings, url=settings.http.base_url, email=ADMIN_EMAIL, password=password)
        console.print(f"The command line is logged in as {ADMIN_EMAIL}.")
    console.print(f"\nraymill is up at [bold]{settings.http.base_url}[/bold] (/console, /api/docs)")


def down() -> None:
    """Stop the platform; the data stays."""
    console = Console()
    with ProgressLines(console) as progress:
        Stack(Settings(), report=progress).down(_flush_inference_logs)


def _prepare(settings: Settings) -> list[str]:
    # SQLAlchemy and Alembic are loaded here, while the servers start, and by no other command
    from ..auth.bootstrap import ensure_admin
    from ..kernel.keyfiles import make_keys
    from ..kernel.migrate import upgrade

    upgrade(settings)
    make_keys(settings.keys_dir)
    password = ensure_admin(settings)
    return [password] if password else []


def _flush_inference_logs(settings: Settings) -> None:
    """Let the model servers write their logs away; without Valkey or without them there is nobody to ask."""
    from ..kernel import cache
    from ..kernel.errors import ExternalServiceError
    from ..serving.published.channel import flush_servers

    with suppress(ExternalServiceError), cache.connect(settings.redis) as valkey:
        flush_servers(valkey)
