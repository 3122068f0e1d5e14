"""`raymill audit`: who did what, and who was refused."""

from datetime import datetime
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..kernel.settings import Settings
from ..sdk import AuditEntry, Client

# Wider than most terminals: ids are there to be copied, and must not be cut.
_WIDTH = 240


def audit(
    project: Annotated[str | None, typer.Option(help="Only what concerns this project.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this account did: its id.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this operation, such as delete_model.")] = None,
    object_id: Annotated[str | None, typer.Option("--object", help="Only what was done to this: its id.")] = None,
    request: Annotated[str | None, typer.Option(help="Only what follows from this request: its id.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    since: Annotated[datetime | None, typer.Option(help="The earliest moment, in local time.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines with all fields.")] = False,
) -> None:
    """Show who did what, and who was refused, newest first."""
    with Client.from_home(Settings().home) as client:
        entries = client.audit.list(
            project_id=client.projects.from_name(project).id if project else None,
            actor_id=actor,
            action=action,
            object_id=object_id,
            request_id=request,
            outcome="refused" if refused else None,
            since=since.astimezone() if since else None,
        )
        wanted = list(islice(entries, limit))
    if as_json:
        for entry in wanted:
            typer.echo(entry.model_dump_json())
    else:
        Console(width=_WIDTH, soft_wrap=True).print(_table(wanted))


def _table(entries: list[AuditEntry]) -> Table:
    table = Table("when", "who", "what", "object", "project", "from")
    for entry in entries:
        table.add_row(
            entry.created_at.astimezone().isoformat(sep=" ", timespec="seconds"),
            entry.actor_name or entry.actor_id,
            _what(entry),
            " ".join(filter(None, (entry.object_type, entry.object_name or entry.object_id))),
            entry.project_name or "",
            entry.address or "",
        )
    return table


def _what(entry: AuditEntry) -> str:
    action = entry.action or ""
    if entry.outcome == "refused":
        return f"{action} refused: {entry.message}".strip()
    fields = f": {', '.join(entry.after or {})}" if entry.change == "changed" else ""
    return f"{action} {entry.change}{fields}".strip()
