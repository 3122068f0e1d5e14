"""What one model server knows: endpoints, grants and revocations, compiled for the request path and held in memory."""

import asyncio
from bisect import bisect_right
from hashlib import blake2b
from itertools import accumulate

from ..errors import EndpointNotReady, RevisionNotFound
from ..models.lines import Room
from ..protocol.tensors import Interface
from ..protocol.v2 import Target
from ..records.redaction import redactions
from .documents import Document, Tombstone
from .grants import Administrators, HeldGrants, ProjectGrants, Revocations
from .key_table import KnownKey
from .table import EndpointDocument, Revision


class Route:
    """One revision of one endpoint, with what the request path needs at hand."""

    __slots__ = ("app", "header", "is_failing", "meter", "redactions", "revision", "target")

    def __init__(self, document: EndpointDocument, revision: Revision) -> None:
        self.revision = revision
        #: The app of its own that answers for it, None where the pool does.
        self.app = revision.app
        #: Whether that app was last seen with nothing to answer with.
        self.is_failing = revision.number in document.failing
        self.target = Target(document.key, str(revision.number), Interface(revision.signature))
        #: Response header that tells clients which revision answered.
        self.header = (b"x-raymill-revision", self.target.version.encode())
        #: Name under which the live metrics count this revision.
        self.meter = (document.endpoint_id, revision.number)
        #: What the inference log does not keep of payloads.
        self.redactions = redactions(document.log.redact, revision.signature) if document.log.redact else None


class Endpoint:
    """One endpoint: its document, its revisions, and who gets which."""

    __slots__ = (
        "_bounds",
        "_keys",
        "_keys_only",
        "_only",
        "_salt",
        "document",
        "is_open",
        "is_public",
        "name",
        "project_id",
        "room",
        "routes",
        "serving",
        "sticky_header",
    )

    def __init__(self, document: EndpointDocument) -> None:
        self.document = document
        self.name = document.key
        self.project_id = document.project_id
        self.room = Room()
        access = document.access
        #: Whether a credential is enough, whoever it is, and whether not even that is asked for.
        self.is_open, self.is_public = access.policy in ("authenticated", "public"), access.policy == "public"
        self._keys_only, self._keys = access.policy == "keys", access.keys
        self.routes = {str(revision.number): Route(document, revision) for revision in document.revisions}
        self.sticky_header = document.sticky_header.lower().encode() if document.sticky_header else None
        weights = {number: weight for number, weight in sorted(document.traffic.items()) if weight}
        #: The revisions that have weight, by number.
        self.serving = [self.routes[str(number)] for number in weights]
        self._bounds = list(accumulate(weights.values()))
        self._only = self.serving[0] if len(self.serving) == 1 else None
        self._salt = document.endpoint_id.encode()[-16:]

    def admits(self, key: KnownKey | None) -> bool:
        """Tell whether the access policy takes this key, or a login where there is none, of those who may invoke."""
        if not self._keys_only:
            return True
        return key is not None and (self._keys is None or key.id in self._keys)

    def pick(self, key: bytes) -> Route:
        """Choose the revision for a request or sticky key; the same key always gets the same one.

        Raises:
            EndpointNotReady: If no revision has traffic.
        """
        if self._only is not None:
            return self._only
        if not self.serving:
            raise EndpointNotReady(self.name)
        digest = blake2b(key, digest_size=8, salt=self._salt).digest()
        return self.serving[bisect_right(self._bounds, int.from_bytes(digest) % 100)]

    def newest(self) -> Route:
        """Return the newest revision that has traffic.

        Raises:
            EndpointNotReady: If none has.
        """
        if not self.serving:
            raise EndpointNotReady(self.name)
        return self.serving[-1]

    def route(self, number: str) -> Route:
        """Return the revision that the client named.

        Raises:
            RevisionNotFound: If the endpoint has none of this number.
        """
        try:
            return self.routes[number]
        except KeyError:
            raise RevisionNotFound(self.name, number) from None


class Directory:
    """The compiled state of all documents; changed only on the event loop, read without locks."""

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        #: Those that have revisions to warm up, and the sign that there may be others now.
        self.warming: dict[str, Endpoint] = {}
        self.warming_changed = asyncio.Event()
        self._grants = HeldGrants()
        self.members, self.keys = self._grants.members, self._grants.keys
        self.revoked_sessions: frozenset[str] = frozenset()
        self.disabled_users: frozenset[str] = frozenset()
        self.administrators: frozenset[str] = frozenset()
        self._versions: dict[str, int] = {}

    def version_of(self, name: str) -> int:
        """Return the version held of the document ``<kind>:<key>``, 0 if none."""
        return self._versions.get(name, 0)

    def skip(self, name: str, version: int) -> None:
        """Note a document of a kind that this server has no use for."""
        self._versions[name] = max(version, self.version_of(name))

    def apply(self, document: Document) -> bool:
        """Take a document over unless a later version is held; return whether it was."""
        name = f"{document.kind}:{document.key}"
        if document.version <= self.version_of(name):
            return False
        match document:
            case EndpointDocument():
                self._place(Endpoint(document))
            case ProjectGrants():
                self._grants.take(document)
            case Revocations():
                self.revoked_sessions, self.disabled_users = frozenset(document.sessions), document.users
            case Administrators():
                self.administrators = document.users
            case Tombstone():
                self._bury(document)
        self._versions[name] = document.version
        return True

    def _place(self, endpoint: Endpoint) -> None:
        if before := self.endpoints.get(endpoint.name):
            # Its requests are still here.
            endpoint.room = before.room
        self.endpoints[endpoint.name] = endpoint
        self.warming.pop(endpoint.name, None)
        if endpoint.document.warming:
            self.warming[endpoint.name] = endpoint
        self.warming_changed.set()

    def _bury(self, document: Tombstone) -> None:
        if document.kind == "endpoint":
            self.endpoints.pop(document.key, None)
            self.warming.pop(document.key, None)
        elif document.kind == "grants":
            self._grants.drop(document.key)
