"""`raymill login`: the account that the other commands act for."""

from typing import Annotated

import typer

from ..kernel.settings import Settings
from ..sdk import Client, credentials

Url = Annotated[str | None, typer.Option(help="Where the platform is; this machine's unless given.")]


def login(
    email: Annotated[str, typer.Option(prompt=True)],
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, envvar="RAYMILL_PASSWORD")],
    url: Url = None,
) -> None:
    """Log in, and keep the login for the next commands."""
    settings = Settings()
    log_in(settings, url=url or settings.http.base_url, email=email, password=password)
    typer.echo(f"Logged in as {email}.")


def log_in(settings: Settings, *, url: str, email: str, password: str) -> None:
    """Exchange a password for tokens and keep them under home.

    Raises:
        RaymillError: If the platform refuses or cannot be reached.
    """
    with Client(url) as client:
        tokens = client.auth.login(email=email, password=password)
    credentials.save(settings.home, url, tokens.access_token, tokens.refresh_token)
