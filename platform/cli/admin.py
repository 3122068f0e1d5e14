"""`raymill admin`: what the operator does to the administrator's account."""

import typer

from ..kernel.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The administrator's account.")


@app.callback()
def _root() -> None:
    pass


@app.command("reset-password")
def reset_password() -> None:
    """Print a new password of the administrator; run it with the platform's own settings."""
    # SQLAlchemy is loaded for this command alone
    from ..auth.bootstrap import ADMIN_EMAIL, reset_admin_password
    from ..kernel.schema import ensure_schema

    # An account may belong to a project, whose table SQLAlchemy must know.
    from ..projects import service as _  # noqa: F401

    settings = Settings()
    ensure_schema(settings)
    password = reset_admin_password(settings)
    typer.echo(f"email: {ADMIN_EMAIL}\npassword: {password}")
