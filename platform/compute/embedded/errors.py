"""What can go wrong with the parts that `raymill up` starts, as one sentence for the operator.

EmbeddedError
├── StartFailed      a server did not come up
├── StopFailed       a server did not go away
└── PortTaken        something else listens where a server should
"""

from ...kernel.errors import ExternalServiceError


class EmbeddedError(ExternalServiceError):
    """Base of the errors whose message is one whole sentence for the operator."""


class StartFailed(EmbeddedError):
    """Raised when an embedded server cannot be started."""


class StopFailed(EmbeddedError):
    """Raised when an embedded server does not end."""


class PortTaken(StartFailed):
    """Raised when another program listens on a port that the settings name."""


class Unreachable(EmbeddedError):
    """Raised when a server that the settings name does not answer."""
