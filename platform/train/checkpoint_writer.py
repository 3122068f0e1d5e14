"""How a driver keeps checkpoints with the platform, beside the training and at a bounded price."""

import time
from collections.abc import Callable
from threading import Thread

_EVERY_S = 3.0
# Keeping checkpoints may take this share of the time at most.
_SHARE = 0.1


class CheckpointWriter:
    """Stores states in a thread of its own; one that comes too early, or while another is stored, is passed over."""

    def __init__(
        self,
        upload: Callable[[int, bytes], None],
        *,
        every_s: float = _EVERY_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upload = upload
        self._every_s = every_s
        self._monotonic = monotonic
        self._due = monotonic() + every_s
        self._thread: Thread | None = None

    def offer(self, epoch: int, state: Callable[[], bytes]) -> None:
        """Store the state of an epoch, if it is time to."""
        began = self._monotonic()
        if began < self._due or (self._thread is not None and self._thread.is_alive()):
            return
        content = state()
        self._thread = Thread(target=self._store, args=(began, epoch, content), name="checkpoint", daemon=True)
        self._thread.start()

    def _store(self, began: float, epoch: int, content: bytes) -> None:
        try:
            self._upload(epoch, content)
        finally:
            ended = self._monotonic()
            self._due = ended + max(self._every_s, (ended - began) / _SHARE)
