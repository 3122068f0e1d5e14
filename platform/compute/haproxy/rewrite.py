"""Rewrite the configuration that Ray Serve writes for HAProxy: pure functions from text to text.

Serve's own configuration hides the client's address, lists every application at ``/-/routes``, opens its statistics on
all interfaces and answers errors as text. What is not recognised raises `UnexpectedConfig`: no proxy is better than an
unguarded one.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import ANSWERS, NOT_FOUND, UNAVAILABLE

MARK = "# Guarded by raymill."
LOOPBACK = "127.0.0.1"
HTTP_REQUEST_TIMEOUT = "timeout http-request 30s"
GRPC_DEFAULT_APP = "grpc-inference"

_HEADER = re.compile(r"^(global|defaults|frontend|backend|listen)\b")
# Where Serve reads its metrics from log lines, it needs them all.
_METRICS_LOG = " format rfc5424 "
_FORWARDED = ("X-Forwarded- -m beg", "X-Real-IP", "Forwarded")
_V2_MEMBER = ',"error":"The request failed before it reached a model; see message."'
_GRPC_REFUSAL = (
    "http-request return status 200 content-type application/grpc hdr grpc-status 7 "
    'hdr grpc-message "Applications are not listed." if is_list_applications'
)


class UnexpectedConfig(Exception):
    """Raised when Serve's configuration does not have the form that this version knows."""


@dataclass(frozen=True)
class Rules:
    """What the operator decides about the edge."""

    host: str = LOOPBACK
    metrics_host: str = LOOPBACK
    trusted_proxies: tuple[str, ...] = ()


@dataclass
class Section:
    """A header such as ``frontend http_frontend`` and the lines below it."""

    header: str
    lines: list[str] = field(default_factory=list)

    def replace(self, pattern: str, *replacement: str, times: int = 1) -> None:
        """Replace the lines that match whole, which must be exactly ``times`` many."""
        found = [index for index, line in enumerate(self.lines) if re.fullmatch(pattern, line.strip())]
        if len(found) != times:
            raise UnexpectedConfig(
                f"Ray Serve's HAProxy configuration is not of the known form: {self.header!r} has {len(found)} lines "
                f"like {pattern!r}, not {times}. Use the Ray version that this release names."
            )
        for index in reversed(found):
            self.lines[index : index + 1] = [f"    {line}" for line in replacement]

    def rebind(self, address: str, host: str) -> None:
        """Bind the listener to ``host``, keeping its port and options."""
        pattern = rf"bind {address}:(\d+(?: .*)?)"
        ports = [match[1] for line in self.lines if (match := re.fullmatch(pattern, line.strip()))]
        self.replace(pattern, f"bind {host}:{ports[0] if ports else ''}")


def rewrite(config: str, rules: Rules) -> str:
    """Return Serve's configuration with the edge's rules in it.

    Raises:
        UnexpectedConfig: A part that must be guarded is missing, doubled or unknown.
    """
    if config.startswith(MARK):
        return config
    sections = _parse(config)
    _edit(sections, rules)
    return MARK + "\n" + "\n".join(line for section in sections for line in (section.header, *section.lines)) + "\n"


def _parse(config: str) -> list[Section]:
    sections: list[Section] = []
    for line in config.splitlines():
        if _HEADER.match(line):
            sections.append(Section(line.strip()))
        elif sections:
            sections[-1].lines.append(line)
        elif line.strip():
            raise UnexpectedConfig(f"Ray Serve's HAProxy configuration starts with {line.strip()!r}.")
    return sections


def _edit(sections: list[Section], rules: Rules) -> None:
    has_apps = any(section.header.startswith("backend http-") for section in sections)
    edits: dict[str, Callable[[Section], None]] = {
        "global": _close_admin_socket,
        "defaults": _answer_in_json,
        "frontend prometheus": lambda section: section.rebind("", rules.metrics_host),
        "frontend http_frontend": lambda section: _guard_http(section, rules),
        "backend default_backend": lambda section: _answer_nobodys(section, has_apps=has_apps),
        "listen stats": lambda section: section.rebind(r"\*", LOOPBACK),
    }
    for name, edit in edits.items():
        edit(_only(sections, name))
    if not any(_METRICS_LOG in line for section in sections for line in section.lines):
        _log_failures_alone(_only(sections, "defaults"))
    for grpc in [section for section in sections if section.header == "frontend grpc_frontend"]:
        apps = {section.header.removeprefix("backend ") for section in sections}
        _guard_grpc(grpc, rules, default=GRPC_DEFAULT_APP if GRPC_DEFAULT_APP in apps else None)
        edits[grpc.header] = lambda _: None
    _refuse_unknown_listeners(sections, set(edits))


def _only(sections: list[Section], header: str) -> Section:
    found = [section for section in sections if section.header == header]
    if len(found) != 1:
        raise UnexpectedConfig(f"Ray Serve's HAProxy configuration has {len(found)} sections {header!r}, not 1.")
    return found[0]


def _refuse_unknown_listeners(sections: list[Section], known: set[str]) -> None:
    for section in sections:
        if section.header not in known and any(line.split()[:1] == ["bind"] for line in section.lines):
            raise UnexpectedConfig(f"Ray Serve's HAProxy configuration has a listener in {section.header!r}.")


def _close_admin_socket(section: Section) -> None:
    socket = [line.strip() for line in section.lines if line.strip().startswith("stats socket ")]
    section.replace(r"stats socket \S+ mode 666 .*", *(line.replace(" mode 666 ", " mode 600 ") for line in socket))


def _answer_in_json(defaults: Section) -> None:
    defaults.replace(r"errorfile \d+ .*", times=3)
    defaults.lines[:0] = [
        f"    {HTTP_REQUEST_TIMEOUT}",
        *(f"    http-error {answer.directive()}" for answer in ANSWERS),
    ]


def _log_failures_alone(defaults: Section) -> None:
    """Leave out the log line of each request that went well: a quarter of what a request costs HAProxy."""
    defaults.replace(r"option httplog", "option httplog", "option dontlog-normal")


def _guard_http(frontend: Section, rules: Rules) -> None:
    frontend.rebind(r"\S+", rules.host)
    frontend.replace(r"http-request return .* if routes", f"http-request return {NOT_FOUND.directive()} if routes")
    frontend.lines[1:1] = [f"    {line}" for line in (*_request_id(), *_true_client(rules.trusted_proxies))]


def _request_id() -> list[str]:
    given = r"{ req.fhdr_cnt(x-request-id) 1 } { req.fhdr(x-request-id) -m reg ^[A-Za-z0-9._:-]{1,128}$ }"
    return [
        f"http-request set-var(txn.raymill_id) req.fhdr(x-request-id) if {given}",
        "http-request set-var(txn.raymill_id) uuid() if !{ var(txn.raymill_id) -m found }",
        "http-request set-header X-Request-ID %[var(txn.raymill_id)]",
        f"http-request set-var-fmt(txn.raymill_v2) '{_V2_MEMBER}' if {{ path_beg /v2/ }}",
    ]


def _true_client(trusted_proxies: tuple[str, ...]) -> list[str]:
    unless = f" if !{{ src {' '.join(trusted_proxies)} }}" if trusted_proxies else ""
    return [
        *(f"http-request del-header {name}{unless}" for name in _FORWARDED),
        "http-request set-header X-Raymill-Peer [%[src]]:%[src_port]",
    ]


def _answer_nobodys(backend: Section, *, has_apps: bool) -> None:
    """Answer what no application has: a proxy that just started knows none yet, and /v2 always belongs to one."""
    later, never = f"http-request return {UNAVAILABLE.directive()}", f"http-request return {NOT_FOUND.directive()}"
    backend.replace(
        r"http-request return status 404 .*", *([f"{later} if {{ path_beg /v2/ }}", never] if has_apps else [later])
    )


def _guard_grpc(frontend: Section, rules: Rules, default: str | None) -> None:
    frontend.rebind(r"\S+", rules.host)
    frontend.replace(
        r"(use_backend grpc_fallback_backend|http-request return .*) if is_list_applications", _GRPC_REFUSAL
    )
    if default:
        frontend.replace(
            r"default_backend \S+",
            "acl names_application req.hdr(application) -m found",
            "use_backend default_grpc_backend if names_application",
            f"default_backend {default}",
        )
    frontend.lines[:0] = [f"    {line}" for line in _true_client(rules.trusted_proxies)]


__all__ = ["MARK", "Rules", "UnexpectedConfig", "rewrite"]
