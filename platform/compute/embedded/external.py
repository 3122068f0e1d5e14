"""Whether the servers that the settings name, and that we do not run, answer us: asked before anything is started."""

from urllib.parse import urlsplit

import psycopg
from redis.exceptions import RedisError

from ...kernel import cache
from ...kernel.settings import Settings
from .errors import Unreachable

PATIENCE_S = 3

# A member of the owner's role may do what the owner may; a superuser is a member of every role.
_MAY_CHANGE = """
SELECT current_user FROM pg_class
WHERE pg_class.oid = to_regclass('audit') AND (
  pg_has_role(relowner, 'MEMBER') OR has_table_privilege(pg_class.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
)
"""


def check_postgres(settings: Settings) -> None:
    """Log in to PostgreSQL once by each URL, with the URL's own TLS parameters.

    Raises:
        Unreachable: With the server's or the network's words.
    """
    named = {"RAYMILL_DATABASE__URL": settings.database.url, "RAYMILL_DATABASE__ADMIN_URL": settings.database.admin_url}
    for name, secret in named.items():
        url = secret.get_secret_value() if secret else ""
        try:
            if secret:
                _connect(url).close()
        except psycopg.Error as error:
            raise Unreachable(
                f"PostgreSQL at {place(url)} ({name}) does not answer or refuses us: {_reason(error)}"
            ) from error


def audit_weakness(settings: Settings) -> str:
    """Say how the application's own role could change the audit log; an empty text if it cannot.

    Raises:
        psycopg.Error: If the database does not answer.
    """
    url = settings.database.url.get_secret_value() if settings.database.url else ""
    with _connect(url) as connection:
        found = connection.execute(_MAY_CHANGE).fetchone()
    if found is None:
        return ""
    [role] = found
    return f"the audit log is not append-only: {role} may change it; give RAYMILL_DATABASE__ADMIN_URL another role"


def check_valkey(settings: Settings) -> None:
    """Ask Valkey once.

    Raises:
        Unreachable: With the server's or the network's words.
    """
    url = settings.redis.url.get_secret_value() if settings.redis.url else ""
    try:
        with cache.connect(settings.redis) as client:
            client.ping()
    except (RedisError, OSError) as error:  # a file of certificates that is not there is an OSError
        raise Unreachable(
            f"The cache at {place(url)} (RAYMILL_REDIS__URL) does not answer or refuses us: {_reason(error)}"
        ) from error


def check_store(settings: Settings) -> None:
    """Write and remove an object, if the settings name a store.

    Raises:
        Unreachable: With the store's or the network's words.
    """
    if settings.storage.url is None:
        return
    # Its drivers take half a second to load, and most platforms on one machine need none of them.
    from ...kernel.storage import ObjectStore

    try:
        ObjectStore(settings).ping()
    except Exception as error:  # fsspec's backends raise classes of their own
        raise Unreachable(
            f"The object store {settings.storage.url} (RAYMILL_STORAGE__URL) does not answer or refuses us: "
            f"{_reason(error.__cause__ or error)}"
        ) from error


def _connect(url: str) -> psycopg.Connection:
    # The driver's name in the scheme is SQLAlchemy's, not libpq's.
    return psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=PATIENCE_S)


def place(url: str) -> str:
    """Host, port and database of a URL, without its password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}{parts.path}" if parts.port else f"{parts.hostname}{parts.path}"


def _reason(error: BaseException) -> str:
    """The last line of an error's message, which says what the lines before it led to."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removesuffix(".") + "." if lines else f"{type(error).__name__}."


__all__ = ["audit_weakness", "check_postgres", "check_store", "check_valkey", "place"]
