"""`raymill status`: each part, each application, and what a joined cluster's environment lacks."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..compute.cluster import Cluster, ClusterUnreachable, ServeApp
from ..compute.embedded.stack import PartStatus, Stack
from ..compute.preflight import HeadNotAsked, Lack, lacks
from ..kernel.settings import Settings
from .joined import RayAddress, RayToken, RayTokenFile, joined
from .progress import ProgressLines

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def status(
    as_json: AsJson = False,
    ray_address: RayAddress = None,
    ray_token_file: RayTokenFile = None,
    ray_token: RayToken = None,
) -> None:
    """Show each part and each application; of a joined cluster also what its environment lacks."""
    settings = joined(Settings(), ray_address, ray_token_file, ray_token)
    parts = Stack(settings, report=ProgressLines(Console())).status()
    apps, missing = _serve_apps(settings), _lacks(settings)
    if as_json:
        document = {
            "parts": [asdict(part) for part in parts],
            "apps": [_app_row(app) for app in apps],
            "missing": [asdict(lack) for lack in missing],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    console = Console()
    console.print(_parts_table(parts))
    if apps:
        console.print(_apps_table(apps))
    if missing:
        typer.echo("The cluster's environment lacks ('raymill env --exports' prints what 'ray start' should see):")
    for lack in missing:
        typer.echo(f"  {lack.variable}: {lack.cost}.")


def _serve_apps(settings: Settings) -> list[ServeApp]:
    try:
        with Cluster.connect(settings, timeout_s=5.0) as cluster:
            return cluster.serve_apps()
    except ClusterUnreachable:
        return []


def _lacks(settings: Settings) -> list[Lack]:
    if settings.ray.address is None:
        return []
    try:
        with Cluster.connect(settings, timeout_s=10.0) as cluster:
            return lacks(settings, cluster)
    except (ClusterUnreachable, HeadNotAsked) as error:
        typer.echo(f"What the environment lacks is not known: {error.message}", err=True)
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
