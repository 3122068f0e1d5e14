"""`raymill predictions`: what deployments answered, and what became of it."""

import json
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..sdk.inference_log import FeedbackRecord, InferenceRecord
from .deployments import Environment, Name, Project, Where, named

# Wider than most terminals: ids are there to be copied, and must not be cut.
_WIDTH = 240

app = typer.Typer(no_args_is_help=True, help="Read the inference log of a deployment, and give feedback.")

Request = Annotated[str | None, typer.Option(help="Only this request: its id.")]
Since = Annotated[datetime | None, typer.Option(help="The earliest moment, in local time.")]
Until = Annotated[datetime | None, typer.Option(help="The latest moment, in local time.")]
Limit = Annotated[int, typer.Option(min=1, help="How many rows.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines with all fields.")]


@app.command("list")
def list_predictions(
    name: Name,
    project: Project,
    environment: Where = Environment.PRODUCTION,
    revision: Annotated[int | None, typer.Option(min=1, help="Only answers of this revision.")] = None,
    status: Annotated[int | None, typer.Option(help="Only answers of this HTTP status.")] = None,
    request: Request = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show the requests that a deployment answered, newest first."""
    with named(name, project, environment) as (client, found):
        rows = client.deployments.log(
            found.id, since=_zoned(since), until=_zoned(until), revision=revision, status=status, request_id=request
        )
        wanted = list(islice(rows, limit))
    cells = [(row.request_id, str(row.revision), row.principal, f"{row.latency_ms:.1f}", _end(row)) for row in wanted]
    _print(wanted, ("request", "revision", "who", "ms", "answer"), cells, as_json=as_json)


@app.command("feedback")
def feedback(
    name: Name,
    project: Project,
    environment: Where = Environment.PRODUCTION,
    request: Request = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show what clients said of a deployment's answers, newest first."""
    with named(name, project, environment) as (client, found):
        rows = client.deployments.feedback(found.id, since=_zoned(since), until=_zoned(until), request_id=request)
        wanted = list(islice(rows, limit))
    cells = [(row.request_id, row.principal, json.dumps(row.label), json.dumps(row.value)) for row in wanted]
    _print(wanted, ("request", "who", "label", "value"), cells, as_json=as_json)


@app.command("rate")
def rate(
    name: Name,
    request: Annotated[str, typer.Argument(help="Id of the request: X-Request-ID of its answer.")],
    project: Project,
    environment: Where = Environment.PRODUCTION,
    label: Annotated[
        str | None, typer.Option(help="What the answer should have been; a number, true or false unless in quotes.")
    ] = None,
    value: Annotated[float | None, typer.Option(help="How good the answer was, or what it was worth.")] = None,
) -> None:
    """Say what became of an answer."""
    with named(name, project, environment) as (client, found):
        said = None if label is None else label_of(label)
        client.endpoints.give_feedback(found.endpoint, request, label=said, value=value)


def label_of(text: str) -> str | int | float | bool:
    """Return the label that a word of the command line stands for: a JSON scalar, else the word itself."""
    try:
        said = json.loads(text)
    except json.JSONDecodeError:
        return text
    is_scalar = isinstance(said, str | bool) or (isinstance(said, int | float) and math.isfinite(said))
    return said if is_scalar else text


def _zoned(moment: datetime | None) -> datetime | None:
    return moment.astimezone() if moment else None


def _end(row: InferenceRecord) -> str:
    return f"{row.status} {row.error or ''}".strip()


def _print(
    rows: Sequence[InferenceRecord | FeedbackRecord],
    columns: tuple[str, ...],
    cells: Iterable[tuple[str, ...]],
    *,
    as_json: bool,
) -> None:
    if as_json:
        for row in rows:
            typer.echo(row.model_dump_json())
        return
    table = Table("when", *columns)
    for row, texts in zip(rows, cells, strict=True):
        table.add_row(row.time.astimezone().isoformat(sep=" ", timespec="milliseconds"), *texts)
    Console(width=_WIDTH, soft_wrap=True).print(table)
