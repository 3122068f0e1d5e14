"""Which role owns the tables: whoever migrates, backs up and restores logs in as it."""

from pydantic import SecretStr

from ...kernel.errors import ExternalServiceError
from ...kernel.settings import Settings
from .postgres import EmbeddedPostgres


def with_owner(settings: Settings) -> Settings:
    """Return the settings with the owner's URL where we run the server; another server's is in them or nowhere."""
    server = EmbeddedPostgres(settings.home / "postgres")
    url = settings.database.url.get_secret_value() if settings.database.url else None
    if server.port is None or (url is not None and url not in server.urls):
        return settings
    owner = {"url": SecretStr(url or server.url), "admin_url": SecretStr(server.admin_url)}
    return settings.model_copy(update={"database": settings.database.model_copy(update=owner)})


def owner_url(settings: Settings) -> str:
    """Return the URL of the role that owns the tables, as libpq reads it.

    Raises:
        ExternalServiceError: If there is no database yet.
    """
    url = with_owner(settings).database.as_owner.url
    if url is None:
        raise ExternalServiceError("There is no database yet: run 'raymill up' or set RAYMILL_DATABASE__URL.")
    # The driver's name in the scheme is SQLAlchemy's.
    return url.get_secret_value().replace("+psycopg", "", 1)


__all__ = ["owner_url", "with_owner"]
