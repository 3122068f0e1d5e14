"""Alembic's entry: every slice's tables, on the connection that ``kernel.migrate`` hands over."""

from alembic import context
from sqlmodel import SQLModel

import raymill.auth.models
import raymill.controller.models
import raymill.data.models
import raymill.deployments.models
import raymill.kernel.events
import raymill.kernel.idempotency
import raymill.projects.models
import raymill.registry.models
import raymill.tracking.models
import raymill.train.models  # noqa: F401

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
