"""TLS in front of the embedded servers, whose binaries were built without it, and certificates of a CA of our own."""

import asyncio
import ssl
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

# Codes that a PostgreSQL client sends before anything else (PostgreSQL 18, "Message Formats").
_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


@dataclass(frozen=True)
class Certificates:
    """Files of a server's certificate for 127.0.0.1 and of the authority that signed it."""

    authority: Path
    chain: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and a server certificate signed by it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority_key, server_key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = _certificate("test authority", authority_key, "test authority", authority_key, is_authority=True)
    server = _certificate("127.0.0.1", server_key, "test authority", authority_key, is_authority=False)
    files.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    files.chain.write_bytes(server.public_bytes(Encoding.PEM))
    files.key.write_bytes(server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def _certificate(
    name: str,
    key: EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(issuer_key, SHA256())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Door:
    """A listening door: its port and how many clients have come through it."""

    port: int
    clients: int = 0


@dataclass
class _Doorkeeper:
    certificates: Certificates
    target: int
    is_postgres: bool
    door: Door = field(default_factory=lambda: Door(0))

    async def open(self) -> asyncio.Server:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificates.chain, self.certificates.key)
        self._context = context
        server = await asyncio.start_server(self._admit, "127.0.0.1", 0, ssl=None if self.is_postgres else context)
        self.door.port = server.sockets[0].getsockname()[1]
        return server

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                if not self.is_postgres or await self._negotiate(reader, writer):
                    self.door.clients += 1
                    await self._pass(reader, writer)
            finally:
                writer.close()

    async def _negotiate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a PostgreSQL client's wish for TLS; one that does not wish it is turned away."""
        while True:
            _, code = struct.unpack("!II", await reader.readexactly(8))
            if code == _SSL_REQUEST:
                writer.write(b"S")
                await writer.start_tls(self._context)
                return True
            if code != _GSS_REQUEST:
                return False
            writer.write(b"N")

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
    finally:
        writer.close()


@contextmanager
def tls_door(target: int, certificates: Certificates, *, is_postgres: bool) -> Iterator[Door]:
    """Listen with TLS on loopback, in a thread, and pass what comes to the server on port ``target``."""
    keeper = _Doorkeeper(certificates, target, is_postgres)
    opened: Future[None] = Future()
    ended = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_keep(keeper, opened, ended)), daemon=True)
    thread.start()
    try:
        opened.result(10)
        yield keeper.door
    finally:
        ended.set()
        thread.join(10)


async def _keep(keeper: _Doorkeeper, opened: Future[None], ended: threading.Event) -> None:
    async with await keeper.open():
        opened.set_result(None)
        await asyncio.to_thread(ended.wait)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
