"""What browsers are told about the control plane's answers and the pages of the platform."""

import re
from base64 import b64encode
from hashlib import sha256

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..kernel.browsers import HTTPS_HEADERS, SECURITY_HEADERS


class SecurityHeaders:
    """Adds the headers to every answer; a page that brings a policy of its own keeps it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _complete(MutableHeaders(scope=message), is_https=scope["scheme"] == "https")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def page_policy(html: str, *, any_style: bool = False) -> str:
    """Return the content security policy of a page: its own origin, and the scripts and styles that it holds.

    Args:
        html: The page; its inline blocks are allowed by their hashes (CSP level 3, section 2.3.1).
        any_style: Whether scripts of the page write styles into it.
    """
    styles = "'unsafe-inline'" if any_style else _hashes(html, "style")
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {_hashes(html, 'script')}".strip(),
            f"style-src 'self' {styles}".strip(),
            "connect-src 'self'",
            "font-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )


def _hashes(html: str, tag: str) -> str:
    blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
    digests = (b64encode(sha256(block.encode()).digest()).decode() for block in blocks)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _complete(headers: MutableHeaders, *, is_https: bool) -> None:
    for name, value in (HTTPS_HEADERS if is_https else SECURITY_HEADERS).items():
        headers.setdefault(name, value)


__all__ = ["SecurityHeaders", "page_policy"]
