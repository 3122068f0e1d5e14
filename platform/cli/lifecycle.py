"""`raymill up | down | status | env`: the life of the platform on this machine."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..compute.cluster import Cluster, ClusterUnreachable, ServeApp, dashboard_url, token_file
from ..compute.embedded.ray_head import EmbeddedRay
from ..compute.embedded.stack import PartStatus, Stack
from ..kernel.settings import Settings
from .login import log_in
from .progress import ProgressLines

ADMIN_EMAIL = "admin@raymill.dev"

RayAddress = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="Join this Ray cluster (its dashboard URL or GCS address); start none."),
]
RayTokenFile = Annotated[
    Path | None, typer.Option(envvar="RAY_AUTH_TOKEN_PATH", help="File with the token of the Ray cluster to join.")
]
AppsFile = Annotated[Path | None, typer.Option("--apps", help="Ray Serve configuration, instead of apps.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def up(ray_address: RayAddress = None, ray_token_file: RayTokenFile = None, apps: AppsFile = None) -> None:
    """Start the platform, or what is missing of it."""
    console = Console()
    settings = _joined(Settings(), ray_address, ray_token_file)
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
        Stack(Settings(), report=progress).down()


def status(as_json: AsJson = False) -> None:
    """Show each part and each application."""
    settings = Settings()
    parts = Stack(settings, report=ProgressLines(Console())).status()
    apps = _serve_apps(settings)
    if as_json:
        document = {"parts": [asdict(part) for part in parts], "apps": [_app_row(app) for app in apps]}
        typer.echo(json.dumps(document, indent=2))
        return
    console = Console()
    console.print(_parts_table(parts))
    if apps:
        console.print(_apps_table(apps))


def env() -> None:
    """Print what Ray's own tools need to reach the cluster: eval "$(raymill env)"."""
    settings = Settings()
    with Cluster.connect(settings) as cluster:
        cluster.version()
    variables = {
        "RAY_ADDRESS": settings.ray.address or EmbeddedRay(settings).gcs_address,
        "RAY_API_SERVER_ADDRESS": dashboard_url(settings),
        "RAY_DASHBOARD_ADDRESS": dashboard_url(settings),
    }
    if token_file(settings).exists():
        variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file(settings))}
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _joined(settings: Settings, address: str | None, token: Path | None) -> Settings:
    """Settings that join the named cluster; our own head, as `raymill env` names it, is not another cluster."""
    own = {EmbeddedRay(settings).gcs_address, f"http://127.0.0.1:{settings.ray.dashboard_port}"}
    if address is None or address.rstrip("/") in own or settings.ray.address:
        return settings
    given: dict[str, Any] = {"address": address} | ({"token_file": token.absolute()} if token else {})
    return settings.model_copy(update={"ray": settings.ray.model_copy(update=given)})


def _prepare(settings: Settings) -> list[str]:
    # SQLAlchemy and Alembic are loaded here, while the servers start, and by no other command
    from ..auth.bootstrap import ensure_admin
    from ..kernel.migrate import upgrade
    from ..kernel.security import make_keys

    upgrade(settings)
    make_keys(settings.keys_dir)
    password = ensure_admin(settings)
    return [password] if password else []


def _serve_apps(settings: Settings) -> list[ServeApp]:
    try:
        with Cluster.connect(settings, timeout_s=5.0) as cluster:
            return cluster.serve_apps()
    except ClusterUnreachable:
        return []


def _app_row(app: ServeApp) -> dict[str, Any]:
    return {**asdict(app), "replicas": [asdict(replica) for replica in app.replicas]}


def _parts_table(parts: list[PartStatus]) -> Table:
    table = Table("part", "state", "address", "pid", "memory", "detail")
    for part in parts:
        memory = f"{part.memory_bytes / 2**20:.0f} MB" if part.memory_bytes else ""
        table.add_row(part.part, part.state, part.address, str(part.pid or ""), memory, part.detail)
    return table


def _apps_table(apps: list[ServeApp]) -> Table:
    table = Table("application", "state", "route", "replicas", "message")
    for app in apps:
        replicas = ", ".join(f"{one.state} (pid {one.pid})" for one in app.replicas)
        table.add_row(app.name, app.status, app.route_prefix or "", replicas, app.message.strip()[-200:])
    return table
