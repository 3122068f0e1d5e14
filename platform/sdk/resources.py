"""What every noun of the API has: get, list, delete."""

from collections.abc import Iterator
from typing import Any

from .transport import Transport

Resource = dict[str, Any]


class Collection:
    """The resources of one kind, below one path."""

    path: str

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, id_: str) -> Resource:
        """Return one resource."""
        found: Resource = self._transport.call("GET", f"{self.path}/{id_}")
        return found

    def list(self, **filters: str) -> Iterator[Resource]:
        """Return all resources that match, newest first, fetched page by page."""
        cursor: str | None = None
        while True:
            asked = {**filters, **({"cursor": cursor} if cursor else {})}
            page = self._transport.call("GET", self.path, params=asked)
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def delete(self, id_: str) -> None:
        """Remove one resource."""
        self._transport.call("DELETE", f"{self.path}/{id_}")
