"""What can go wrong with an embedded server, as one sentence for the operator.

EmbeddedError
├── StartFailed      a server did not come up
├── StopFailed       a server did not go away
└── Unreachable      an external server that the settings name does not answer
"""


class EmbeddedError(Exception):
    """Base of the errors whose text is one whole sentence for the operator."""


class StartFailed(EmbeddedError):
    """Raised when an embedded server cannot be started."""


class StopFailed(EmbeddedError):
    """Raised when an embedded server does not end."""


class Unreachable(EmbeddedError):
    """Raised when a server that the settings name does not answer."""
