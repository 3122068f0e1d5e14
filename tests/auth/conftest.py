"""People whom the tests of accounts need."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI

from factories import Tenant, make_admin
from raymill.kernel.resources import Resources


@pytest.fixture
def admin(bob: Tenant) -> Tenant:
    """Return bob as an administrator."""
    return make_admin(bob)


def set_auth(app: FastAPI, **changes: Any) -> None:
    """Run the control plane with other settings of identity."""
    resources: Resources = app.state.resources
    auth = resources.settings.auth.model_copy(update=changes)
    settings = resources.settings.model_copy(update={"auth": auth})
    app.state.resources = replace(resources, settings=settings)
