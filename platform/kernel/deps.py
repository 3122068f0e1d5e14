"""FastAPI dependencies that every router may use."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Query, Request
from sqlmodel import Session

from .pagination import PageQuery
from .resources import Resources


def get_resources(request: Request) -> Resources:
    """Return what this process holds open."""
    resources: Resources = request.app.state.resources
    return resources


AppResources = Annotated[Resources, Depends(get_resources)]


def get_session(resources: AppResources) -> Iterator[Session]:
    """Open the request's one transaction; it commits, and events are delivered, before the answer leaves."""
    with resources.session() as session:
        yield session


# scope="function": FastAPI's default would commit after the body was sent.
DbSession = Annotated[Session, Depends(get_session, scope="function")]
Paging = Annotated[PageQuery, Query()]
