"""A process of its own that loads one artifact and puts a request to it: ``python -m raymill.serving.models.trial``.

It reads what to try as JSON from its standard input and writes its verdict to its standard output: an empty text when
all went well, else what was wrong. Ending in any other way is the artifact's doing. It holds no secret, takes no more
memory than it is given, and is the first that the kernel ends when the machine has none left.
"""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from ...kernel.errors import ValidationFailed
from ..errors import ModelBroken, ModelFailed
from ..formats import loader_of
from ..protocol.first_request import first_request
from ..protocol.tensors import Interface
from ..protocol.v2 import Target
from ..published.table import Revision

OUT_OF_MEMORY = 3
# What onnxruntime says when an allocation fails.
_OUT_OF_MEMORY_SIGNS = ("std::bad_alloc", "Failed to allocate memory")
_NICENESS = 5
_FIRST_TO_GO = "1000"


class Order(BaseModel):
    """What to try, and within what."""

    revision: Revision
    path: Path
    memory_bytes: int


def try_out(order: Order) -> str:
    """Load the artifact, put a request to it and return what was wrong with it.

    Raises:
        MemoryError: If it takes more memory than it is given.
    """
    try:
        _load_and_ask(order)
    except (ModelBroken, ModelFailed) as error:
        if any(sign in error.message for sign in _OUT_OF_MEMORY_SIGNS):
            raise MemoryError from error
        # A model that refuses the request may have no fault but that of the request.
        return error.message if isinstance(error, ModelBroken) else ""
    return ""


def _load_and_ask(order: Order) -> None:
    load = loader_of(order.revision.format)
    _limit_memory(order.memory_bytes)
    model = load(order.path, order.revision.signature)
    codec, body, headers = first_request(order.revision)
    try:
        question = codec(Target("trial", "1", Interface(order.revision.signature)), body, headers)
    except ValidationFailed as error:
        raise ModelFailed(error.message) from error
    model.run(question.outputs, question.feeds)


def _limit_memory(more_bytes: int) -> None:
    """Bound what may be allocated from here on."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main() -> int:
    """Try what the standard input orders."""
    os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    order = Order.model_validate_json(sys.stdin.buffer.read())
    try:
        verdict = try_out(order)
    except MemoryError:
        return OUT_OF_MEMORY
    sys.stdout.write(verdict)
    return 0


if __name__ == "__main__":
    sys.exit(main())
