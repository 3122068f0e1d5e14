"""Predictions per second with 10,000 endpoints in the table and 200 of them in use, beside a platform with one.

    python benchmarks/many_endpoints.py

Two platforms run at the same time and are loaded in turns. The documents of the many are signed and published as the
control plane does it, without a row in PostgreSQL for each; each of the 200 has a model of its own.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx
import onnx
import report
from load import BenchmarkFailed, drive, require_wrk
from machine import described
from rounds import Round, alternate, cells, company, heading, ratios, spread
from scene import Scene, running_scene

from raymill.kernel import cache
from raymill.kernel.security import load_signer
from raymill.kernel.settings import Settings
from raymill.kernel.storage import ObjectStore
from raymill.serving.published import channel
from raymill.serving.published.documents import read_envelope, seal, unseal
from raymill.serving.published.table import EndpointDocument, Revision

ROUNDS, LOAD_S, WARM_UP_S = 7, 5, 3
ENDPOINTS, IN_USE = 10_000, 200
FLOOR, AIM = 0.8, 0.95
KNOWN_WITHIN_S = 180.0
# A process for each of the models would try them first: what is measured begins when they are loaded.
SETTINGS = {"SERVING__TRY_MODELS": "suspects"}
ONE, MANY = "1 endpoint", f"{ENDPOINTS:,} endpoints, {IN_USE} in use"


def _run() -> dict[str, Any]:
    require_wrk()
    with running_scene(**SETTINGS) as small, running_scene(**SETTINGS) as large:
        names, took = _publish(large)
        known = _await_last(large, names)
        paths = tuple(f"/v2/models/{name}/predict" for name in names[:IN_USE])
        many = large.own(name=MANY)
        systems = [small.own(name=ONE), replace(many, target=replace(many.target, paths=paths))]
        for system in systems:
            drive(system.target, WARM_UP_S)
        memory = {system.name: system.processes()[0].memory_info().rss / 1e6 for system in systems}
        rounds = alternate(systems, rounds=ROUNDS, seconds=LOAD_S)
    return _document(rounds, {"published_s": took, "known_s": known, "resident_mb": memory})


def _publish(scene: Scene) -> tuple[list[str], float]:
    """Publish the many; return their names, those in use first, and the seconds that it took."""
    settings = Settings(home=scene.platform.home)
    signer, valkey = load_signer(settings.keys_dir, settings.auth), cache.connect(settings.redis)
    held: Any = valkey.hget(channel.DOCUMENTS, f"endpoint:{scene.deployment.endpoint.rpartition('/')[2]}")
    first = unseal(read_envelope(held), signer.verifier)
    if not isinstance(first, EndpointDocument):
        raise BenchmarkFailed("The demo's endpoint is not published.")
    revisions = dict(enumerate(_revisions(scene, ObjectStore(settings), first)))
    begun, names = time.perf_counter(), []
    for number in range(ENDPOINTS):
        served = (revisions.get(number, first.revisions[0]),)
        names.append(f"{first.key}-{number}")
        changed = {"key": names[-1], "endpoint_id": f"dep_{number:026}", "revisions": served}
        channel.publish(valkey, seal(first.model_copy(update=changed), signer))
    return names, time.perf_counter() - begun


def _revisions(scene: Scene, store: ObjectStore, document: EndpointDocument) -> Iterator[Revision]:
    """Store a file for each endpoint in use: the same network, another digest."""
    model, (revision,) = onnx.load(scene.model), document.revisions
    for number in range(IN_USE):
        onnx.helper.set_model_props(model, {"number": str(number)})
        file = scene.folder / "one-of-many.onnx"
        onnx.save(model, file)
        blob = store.put_file(document.project_id, file)
        yield revision.model_copy(update={"uri": blob.uri, "sha256": blob.sha256, "size_bytes": blob.size_bytes})


def _await_last(scene: Scene, names: list[str]) -> float:
    """Wait until the server knows them all, and return the seconds."""
    begun = time.perf_counter()
    address, headers = urlsplit(scene.url()), {"Authorization": scene.credential.read_text()}
    with httpx.Client(base_url=f"{address.scheme}://{address.netloc}", headers=headers) as http:
        while time.perf_counter() - begun < KNOWN_WITHIN_S:
            known = {model["name"] for model in http.post("/v2/repository/index", json={}).json()}
            if known.issuperset(names):
                return time.perf_counter() - begun
            time.sleep(0.5)
    raise BenchmarkFailed(f"After {KNOWN_WITHIN_S:g} s the server knows {len(known)} of {len(names)} endpoints.")


def _document(rounds: list[Round], beside: dict[str, Any]) -> dict[str, Any]:
    found = {name: [one for one in rounds if one.system == name] for name in (ONE, MANY)}
    times = ratios(found[MANY], found[ONE])
    return {
        "machine": described(),
        "systems": {name: spread(those) for name, those in found.items()},
        "ratios": times,
        "other_cpus": [one.other_cpus for one in rounds],
        "judged": report.judged(median(times), FLOOR, AIM),
        **beside,
    }


def _table(document: dict[str, Any]) -> str:
    lines = heading("resident MB")
    for name, figures in document["systems"].items():
        lines.append(f"| {name} | {cells(figures)} | {document['resident_mb'][name]:.0f} |")
    lines += [
        "",
        f"published in {document['published_s']:.1f} s, known to the server {document['known_s']:.1f} s later",
    ]
    lines.append(f"{MANY} / {ONE}: {report.verdict(document['judged'])}")
    return "\n".join([*lines, *company(document["other_cpus"])])


if __name__ == "__main__":
    report.conclude("many_endpoints", _run, _table)
