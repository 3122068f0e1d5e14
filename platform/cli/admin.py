"""`raymill admin`: what the operator does to the administrator's account and to the database."""

import typer

from ..kernel.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The administrator's account, and the database.")


@app.callback()
def _root() -> None:
    pass


@app.command("reset-password")
def reset_password() -> None:
    """Print a new password of the administrator; run it with the platform's own settings."""
    # SQLAlchemy is loaded for this command alone
    from ..auth.bootstrap import ADMIN_EMAIL, reset_admin_password
    from ..compute.embedded.owner import with_owner
    from ..kernel.schema import ensure_schema, has_newest_tables

    # An account may belong to a project, whose table SQLAlchemy must know.
    from ..projects import service as _  # noqa: F401

    settings = with_owner(Settings())
    if not has_newest_tables(settings):
        # Never else: the shell may lack the settings that the rules of the audit log follow.
        ensure_schema(settings)
    password = reset_admin_password(settings)
    typer.echo(f"email: {ADMIN_EMAIL}\npassword: {password}")


@app.command("database-url")
def database_url() -> None:
    """Print the URL of the role that owns the tables, for pg_dump, pg_restore and psql; it holds the password."""
    from ..compute.embedded.owner import owner_url

    typer.echo(owner_url(Settings()))


@app.command("migrate")
def migrate() -> None:
    """Bring the database's tables to this version, as the role that owns them."""
    from ..compute.embedded.owner import with_owner
    from ..kernel.migrate import upgrade

    upgrade(with_owner(Settings()))
    typer.echo("The database's tables are those of this version.")
