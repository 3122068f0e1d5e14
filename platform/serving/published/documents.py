"""Published documents: JSON with a kind, a key and a version, sealed by the platform's Ed25519 key.

The seal covers the exact bytes of the body, which travels as a string inside the envelope, so that a copy in Valkey, in
the object store or on disk is one and the same readable JSON document.
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...kernel.security import TokenSigner, TokenVerifier
from ..errors import DocumentForged
from .grants import Administrators, ProjectGrants, Revocations
from .table import EndpointDocument


class Tombstone(BaseModel):
    """Says that the document of this kind and key is gone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    key: str
    version: int = Field(ge=1)
    deleted: Literal[True] = True


class Publishable(Protocol):
    """Anything that can be sealed: a pydantic model with a name and a version."""

    @property
    def kind(self) -> str:
        """Which sort of document this is."""
        ...

    @property
    def key(self) -> str:
        """Its name within the kind."""
        ...

    @property
    def version(self) -> int:
        """Its version; a higher one holds later state."""
        ...

    def model_dump_json(self) -> str:
        """Write the body."""
        ...


Document = EndpointDocument | ProjectGrants | Revocations | Administrators | Tombstone

_KINDS: dict[str, type[EndpointDocument | ProjectGrants | Revocations | Administrators]] = {
    "endpoint": EndpointDocument,
    "grants": ProjectGrants,
    "revocations": Revocations,
    "administrators": Administrators,
}


@dataclass(frozen=True)
class SealedDocument:
    """A document's bytes with the platform's signature over them."""

    kind: str
    key: str
    version: int
    body: bytes
    signature: bytes

    @property
    def name(self) -> str:
        """The document's name across kinds: ``<kind>:<key>``."""
        return f"{self.kind}:{self.key}"

    def to_bytes(self) -> bytes:
        """Write the envelope."""
        envelope = {
            "kind": self.kind,
            "key": self.key,
            "version": self.version,
            "signature": b64encode(self.signature).decode(),
            "body": self.body.decode(),
        }
        return orjson.dumps(envelope)


def seal(document: Publishable, signer: TokenSigner) -> SealedDocument:
    """Sign a document for publication."""
    body = document.model_dump_json().encode()
    return SealedDocument(document.kind, document.key, document.version, body, signer.sign_document(body))


def read_envelope(content: bytes) -> SealedDocument:
    """Read an envelope without judging it.

    Raises:
        DocumentForged: If it is not an envelope.
    """
    try:
        envelope = orjson.loads(content)
        return SealedDocument(
            kind=str(envelope["kind"]),
            key=str(envelope["key"]),
            version=int(envelope["version"]),
            body=envelope["body"].encode(),
            signature=b64decode(envelope["signature"], validate=True),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DocumentForged("A published document is not in its envelope.") from error


def unseal(sealed: SealedDocument, verifier: TokenVerifier) -> Document | None:
    """Verify a document and read it; a kind that this version does not know reads as None.

    Raises:
        DocumentForged: If the signature is not the platform's, or covers another document than the envelope says.
    """
    if not verifier.document_is_authentic(sealed.body, sealed.signature):
        raise DocumentForged(f"The published document {sealed.name} does not carry the platform's signature.")
    try:
        document = _parse(orjson.loads(sealed.body))
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise DocumentForged(f"The published document {sealed.name} cannot be read.") from error
    if document and (document.kind, document.key, document.version) != (sealed.kind, sealed.key, sealed.version):
        raise DocumentForged(f"The envelope {sealed.name} holds another document.")
    return document


def _parse(body: dict[str, Any]) -> Document | None:
    if body.get("deleted"):
        return Tombstone.model_validate(body)
    model = _KINDS.get(body["kind"])
    return model.model_validate(body) if model else None
