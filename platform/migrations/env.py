"""Alembic's entry: every slice's tables, on the connection that ``kernel.migrate`` hands over."""

from alembic import context
from raymill.data import models as _data  # noqa: F401
from raymill.registry import models as _registry  # noqa: F401
from raymill.tracking import models as _tracking  # noqa: F401
from raymill.train import models as _train  # noqa: F401
from sqlmodel import SQLModel

from raymill.auth import models as _auth  # noqa: F401
from raymill.controller import models as _controller  # noqa: F401
from raymill.deployments import models as _deployments  # noqa: F401
from raymill.kernel import events as _events  # noqa: F401
from raymill.kernel import idempotency as _idempotency  # noqa: F401
from raymill.projects import models as _projects  # noqa: F401

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
