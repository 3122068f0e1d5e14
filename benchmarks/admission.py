"""The microseconds that a model server takes to decide who asks and whether they may, without anything around it."""

import time
from itertools import cycle, islice
from statistics import median

from raymill.kernel.security import TokenVerifier
from raymill.serving.edge.access import Edge
from raymill.serving.published.directory import Directory
from raymill.serving.published.grants import INVOKE, ProjectGrants
from raymill.serving.published.table import AccessPolicy, EndpointDocument, Revision, Signature, TensorSpec

CALLS, REPEATS = 20_000, 5
_PROJECT, _CLOSED, _PUBLIC = "prj_1", "project.closed", "project.public"


class Desk:
    """The edge of a model server that knows one project with one member and two endpoints."""

    def __init__(self, verifier: TokenVerifier, user_id: str) -> None:
        directory = Directory()
        directory.apply(ProjectGrants(project_id=_PROJECT, version=1, members={user_id: frozenset({INVOKE})}))
        directory.apply(_endpoint(_CLOSED, AccessPolicy()))
        directory.apply(_endpoint(_PUBLIC, AccessPolicy(policy="public")))
        self._edge = Edge(directory, verifier, strangers_per_minute=0)

    def stranger_us(self) -> float:
        """Return the time of a decision about a request without a credential."""
        return median(self._us([{}], _PUBLIC, CALLS) for _ in range(REPEATS))

    def known_us(self, tokens: list[str]) -> float:
        """Return the time of a decision when every token was seen before."""
        headers = _headers(tokens)
        self._us(headers, _CLOSED, len(headers))
        return median(self._us(headers, _CLOSED, CALLS) for _ in range(REPEATS))

    def new_us(self, tokens: list[str]) -> float:
        """Return the time of a decision when no token was seen before."""
        return self._us(_headers(tokens), _CLOSED, len(tokens))

    def _us(self, headers: list[dict[bytes, bytes]], name: str, calls: int) -> float:
        begun = time.perf_counter()
        for given in islice(cycle(headers), calls):
            self._edge.admit(given, name, "127.0.0.1")
        return 1e6 * (time.perf_counter() - begun) / calls


def _headers(tokens: list[str]) -> list[dict[bytes, bytes]]:
    return [{b"authorization": token.encode()} for token in tokens]


def _endpoint(key: str, access: AccessPolicy) -> EndpointDocument:
    tensor = TensorSpec(name="x", datatype="FP32", shape=(-1,))
    revision = Revision(
        number=1,
        format="onnx",
        uri="file:///model.onnx",
        sha256="0" * 64,
        size_bytes=1,
        signature=Signature(inputs=(tensor,), outputs=(tensor,)),
    )
    return EndpointDocument(
        key=key,
        version=1,
        endpoint_id="dep_1",
        project_id=_PROJECT,
        revisions=(revision,),
        traffic={1: 100},
        access=access,
    )
