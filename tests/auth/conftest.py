"""People whom the tests of accounts need."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import update
from sqlmodel import col

from factories import Tenant
from raymill.auth.models import User
from raymill.kernel.resources import Resources


@pytest.fixture
def admin(resources: Resources, bob: Tenant) -> Tenant:
    """Return bob as an administrator."""
    with resources.session() as session:
        session.execute(update(User).where(col(User.id) == bob.user_id).values(role="admin"))
    return bob


def set_auth(app: FastAPI, **changes: Any) -> None:
    """Run the control plane with other settings of identity."""
    resources: Resources = app.state.resources
    auth = resources.settings.auth.model_copy(update=changes)
    settings = resources.settings.model_copy(update={"auth": auth})
    app.state.resources = replace(resources, settings=settings)
