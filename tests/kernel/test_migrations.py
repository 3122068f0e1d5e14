"""The migrations make exactly the tables that the code declares."""

import pytest
from alembic import command
from sqlmodel import create_engine

from raymill.kernel.db import dialect_url
from raymill.kernel.migrate import alembic_config

pytestmark = pytest.mark.integration


def test_migrations_and_tables_agree(migrated_url: str) -> None:
    engine = create_engine(dialect_url(migrated_url))
    with engine.connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.check(config)
    engine.dispose()
