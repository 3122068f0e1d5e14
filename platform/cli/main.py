"""The entry point of `raymill`: a table of commands, each loaded when it is called.

Importing this module costs typer alone. To add a noun, write a file with a `typer.Typer` named `app` (for several
commands) or with a function (for one), and add its line to `COMMANDS`.
"""

import importlib
import sys
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Entry:
    """Where a command lives and what `raymill --help` says about it."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "up": Entry("lifecycle", "up", "Start the platform, or what is missing of it."),
    "down": Entry("lifecycle", "down", "Stop the platform; the data stays."),
    "status": Entry("status", "status", "Show each part and each application."),
    "logs": Entry("logs", "logs", "Print the logs of a part or of an application."),
    "login": Entry("login", "login", "Log in, and keep the login for the next commands."),
    "quickstart": Entry("quickstart", "quickstart", "Take your own table to a served model, and show each step."),
    "models": Entry("models", "app", "Look at models, and import your own."),
    "deploy": Entry("deployments", "deploy", "Serve a model, or another version of it."),
    "deployments": Entry("deployments", "app", "Look at deployments, and change them."),
    "predictions": Entry("predictions", "app", "Read the inference log of a deployment, and give feedback."),
    "demo": Entry("demo", "demo", "Take a real dataset to a served model, and show each step."),
    "audit": Entry("audit", "audit", "Show who did what, and who was refused, newest first."),
    "env": Entry("environment", "env", "Print what Ray's own tools need to reach the cluster."),
    "keys": Entry("keys", "app", "The platform's signing keys."),
    "admin": Entry("admin", "app", "The administrator's account, and the database."),
}


class LazyGroup(TyperGroup):
    """A group whose overview comes from the table; the module of a command is imported when that command is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: TyperCommand(name, help=entry.summary) for name, entry in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the called command and put the real one in the place of its line."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else command, rest


def load(name: str) -> Any:
    """Import the module of a command and return the command."""
    entry = COMMANDS[name]
    target = getattr(importlib.import_module(f".{entry.module}", __package__), entry.attribute)
    if isinstance(target, typer.Typer):
        return typer.main.get_group(target)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(target)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A self-hosted AI platform that runs as serverless functions on one Ray cluster.",
)


@app.callback()
def _root() -> None:
    pass


def main() -> None:
    """Run the command line; an expected failure is one sentence on stderr and exit code 1."""
    try:
        app(prog_name="raymill")
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        typer.echo(f"raymill: {sentence}", err=True)
        sys.exit(1)


def _sentence(error: Exception) -> str | None:
    """What the operator reads for a failure that somebody foresaw; None for a fault of ours."""
    message = getattr(error, "message", None)
    if isinstance(message, str):
        return message
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}."
    if type(error).__name__ in {"ValidationError", "SettingsError"}:
        return f"The settings are not valid: {' '.join(str(error).split())}"
    return None


if __name__ == "__main__":
    main()
