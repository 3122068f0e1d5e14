"""A control plane in miniature: it seals and stores documents as `deployments` does, for a model server to follow."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import redis
from pydantic import SecretStr

from raymill.kernel.keyfiles import make_keys
from raymill.kernel.security import TokenSigner, hash_secret, load_signer
from raymill.kernel.settings import RedisSettings, ServingSettings, Settings
from raymill.kernel.storage import ObjectStore
from raymill.serving.published.channel import publish
from raymill.serving.published.copies import store_copy
from raymill.serving.published.documents import Publishable, SealedDocument, Tombstone, seal
from raymill.serving.published.grants import INVOKE, KeyGrant, ProjectGrants, Revocations
from raymill.serving.published.table import EndpointDocument, LogPolicy, Revision, Signature, TensorSpec

# Nothing listens there: the plane without Valkey.
NOWHERE = "redis://127.0.0.1:1/0"
# What the tests make ends no process, and a process for each would take most of their time.
FREELY = ServingSettings(try_models="suspects")
# Signs of life, and what is tried again with each, twenty times a second.
OFTEN = FREELY.model_copy(update={"heartbeat_s": 0.05})
KEY = "rm_the-key-of-the-project"
VIEWER_KEY = "rm_a-key-that-may-only-read"
FOREIGN_KEY = "rm_a-key-of-another-project"

MLP = Signature(
    inputs=(TensorSpec(name="features", datatype="FP32", shape=(-1, 4), columns=("a", "b", "c", "d")),),
    outputs=(TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 3)),),
    labels=("red", "green", "blue"),
)
SCALE = Signature(
    inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 1)),),
    outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 1)),),
)
ROUNDS = Signature(
    inputs=(TensorSpec(name="n", datatype="INT64", shape=(1,)),),
    outputs=(TensorSpec(name="y", datatype="INT64", shape=(1,)),),
)


@dataclass
class Plane:
    """Keys, object store and, where a test has one, Valkey."""

    home: Path
    redis_url: str = NOWHERE
    serving: ServingSettings = field(default_factory=FREELY.model_copy)
    _versions: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.settings = Settings(
            home=self.home, redis=RedisSettings(url=SecretStr(self.redis_url), timeout_s=0.5), serving=self.serving
        )
        make_keys(self.settings.keys_dir)
        self.signer: TokenSigner = load_signer(self.settings.keys_dir, self.settings.auth)
        self.store = ObjectStore(self.settings)
        self.cache = redis.Redis.from_url(self.redis_url)

    def publish(self, document: Publishable) -> SealedDocument:
        sealed = seal(document, self.signer)
        store_copy(self.store, sealed)
        if self.redis_url != NOWHERE:
            publish(self.cache, sealed)
        return sealed

    def revision(self, path: Path, signature: Signature, number: int = 1, **changes: Any) -> Revision:
        blob = self.store.put_file("prj_1", path)
        known = {"number": number, "format": "onnx", "uri": blob.uri, "sha256": blob.sha256}
        return Revision(**{**known, "size_bytes": blob.size_bytes, "signature": signature, **changes})

    def endpoint(
        self, key: str, *revisions: Revision, traffic: dict[int, int] | None = None, **more: Any
    ) -> SealedDocument:
        return self.publish(
            EndpointDocument(
                key=key,
                version=next(self._versions),
                endpoint_id=more.pop("endpoint_id", "dep_1"),
                project_id=more.pop("project_id", "prj_1"),
                revisions=revisions,
                traffic=traffic or {revisions[0].number: 100},
                **more,
            )
        )

    def bury(self, kind: str, key: str) -> SealedDocument:
        return self.publish(Tombstone(kind=kind, key=key, version=next(self._versions)))

    def grants(self, project_id: str = "prj_1", *, members: Any = None, keys: Any = None) -> SealedDocument:
        members = {"usr_dev": {INVOKE}, "usr_viewer": {"deployment:read"}} if members is None else members
        if keys is None:
            keys = {
                KEY: KeyGrant(id="key_1", permissions=frozenset({"*"})),
                VIEWER_KEY: KeyGrant(id="key_2", permissions=frozenset({"model:read"})),
            }
        digests = {hash_secret(secret): grant for secret, grant in keys.items()}
        version = next(self._versions)
        return self.publish(ProjectGrants(project_id=project_id, version=version, members=members, keys=digests))

    def revoke(self, *, sessions: Any = None, users: Any = ()) -> SealedDocument:
        version = next(self._versions)
        return self.publish(Revocations(version=version, sessions=sessions or {}, users=frozenset(users)))

    def token(self, user_id: str = "usr_dev", session_id: str = "ses_1", *, now: datetime | None = None) -> str:
        return self.signer.access_token(user_id=user_id, session_id=session_id, now=now or datetime.now(UTC))

    def bearer(self, user_id: str = "usr_dev", session_id: str = "ses_1") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user_id, session_id)}"}


__all__ = ["FOREIGN_KEY", "FREELY", "KEY", "MLP", "NOWHERE", "OFTEN", "SCALE", "VIEWER_KEY", "LogPolicy", "Plane"]
