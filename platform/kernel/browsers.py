"""What browsers are told on every plane: how to treat an answer, and which other origins' pages may read it."""

from typing import Any, Final

# An answer that is no page loads nothing and stands in no frame.
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# Over plain HTTP anybody on the way could say it, so browsers do not listen (RFC 6797, section 7.2).
HTTPS_HEADERS: Final = SECURITY_HEADERS | {"Strict-Transport-Security": "max-age=63072000"}

# What pages of other origins may read of an answer beside its body.
_READABLE = ["Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-ID"]
_SENT = ["Authorization", "Content-Type", "Idempotency-Key", "X-API-Key", "X-Request-ID"]


def cross_origin(origins: tuple[str, ...], *, readable: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the options of Starlette's CORSMiddleware.

    Args:
        origins: Origins whose pages may call.
        readable: Headers of this plane's answers beside those of every plane.
    """
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": _SENT,
        "expose_headers": [*_READABLE, *readable],
    }


__all__ = ["HTTPS_HEADERS", "SECURITY_HEADERS", "cross_origin"]
