"""What authentication costs a prediction: one token, 10,000 in rotation and tokens never seen, beside none at all.

Without any is the same model behind an endpoint that is public, and no limit on who asks without a credential. All run
on one platform and are loaded one after the other, in each round in another order; a ratio is that of one round.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from admission import Desk
from load import BenchmarkFailed, Target, drive, require_wrk
from machine import described, write
from own_platform import OwnPlatform, digits_body, digits_deployment, predict_url, running_platform
from rounds import Round, System, alternate, cells, company, heading, spread

from raymill.kernel.ids import new_id
from raymill.kernel.security import TokenSigner, load_signer
from raymill.kernel.settings import AuthSettings
from raymill.sdk import Client
from raymill.sdk.credentials import StoredCredential
from raymill.sdk.deployments import Deployment

ROUNDS = 9
LOAD_S = 4
# Long enough for each of the tokens in rotation to have been seen.
WARM_UP_S = 12
TOKENS = 10_000
NEW_ROUNDS = 3
# More than are asked for in one round, so that none is seen twice.
NEW_TOKENS = 6_000 * LOAD_S
FLOOR = 0.95
NONE, ONE, ROTATION, NEW = "no authentication", "one token", f"{TOKENS:,} tokens in rotation", "tokens never seen"
# No credential, but as many bytes of another header: what carrying a token costs.
PADDED = "no authentication, as many bytes"
JUDGED = (ONE, ROTATION)


def main() -> None:
    """Run the benchmark; exit with 1 when it is not worth anything, with 2 when a floor is missed."""
    try:
        document = _run()
    except BenchmarkFailed as failure:
        sys.exit(str(failure))
    write("authentication", document, _table(document))
    if any(document["ratios"][name]["median"] < FLOOR for name in JUDGED):
        sys.exit(2)


def _run() -> dict[str, Any]:
    require_wrk()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rm-bench-")))
        platform = stack.enter_context(running_platform(SERVING__STRANGERS_PER_MINUTE="0"))
        client = stack.enter_context(platform.client())
        signer, user_id = load_signer(platform.home / "keys", AuthSettings()), client.auth.me().id
        systems = _systems(platform, client, folder, signer, user_id)
        for system in systems:
            drive(system.target, WARM_UP_S)
        rounds = alternate(systems, rounds=ROUNDS, seconds=LOAD_S)
        rounds += _fresh(systems[0], systems[2], folder, signer, user_id)
        decisions = _decisions(signer, user_id)
    return _document(rounds, decisions)


def _systems(platform: OwnPlatform, client: Client, folder: Path, signer: TokenSigner, user_id: str) -> list[System]:
    digits, body, login = digits_deployment(client), digits_body(folder), StoredCredential(platform.home)
    public = client.deployments.deploy(
        project_id=digits.project_id, name="digits-public", model="digits", access="public"
    )
    client.deployments.wait_until_ready(public.id)

    def system(name: str, deployment: Deployment, tokens: int) -> System:
        credential = folder / f"{name}.credential"
        credential.write_text("\n".join(_tokens(signer, user_id, tokens)))
        target = Target(predict_url(login, deployment), body, credential)
        return System(name, version("raymill"), target, platform.data_plane)

    none, (token,) = system(NONE, public, 0), _tokens(signer, user_id, 1)
    padded = replace(none, name=PADDED, target=replace(none.target, headers={"X-Padding123": token}))
    return [none, padded, system(ONE, digits, 1), system(ROTATION, digits, TOKENS)]


def _tokens(signer: TokenSigner, user_id: str, count: int) -> Iterator[str]:
    """Sign access tokens as the platform does at a login, each of a session of its own."""
    now = datetime.now(UTC)
    for _ in range(count):
        yield f"Bearer {signer.access_token(user_id=user_id, session_id=new_id('ses'), now=now)}"


def _decisions(signer: TokenSigner, user_id: str) -> dict[str, float]:
    """Return the microseconds of a decision in each case."""
    desk, seen, new = Desk(signer.verifier, user_id), *(list(_tokens(signer, user_id, TOKENS)) for _ in range(2))
    return {
        NONE: desk.stranger_us(),
        PADDED: desk.stranger_us(),
        ONE: desk.known_us(seen[:1]),
        ROTATION: desk.known_us(seen),
        NEW: desk.new_us(new),
    }


def _fresh(none: System, one: System, folder: Path, signer: TokenSigner, user_id: str) -> list[Round]:
    """Measure tokens never seen, last of all: they push what the platform remembers out."""
    rounds = []
    for number in range(NEW_ROUNDS):
        credential = folder / f"new-{number}.credential"
        credential.write_text("\n".join(_tokens(signer, user_id, NEW_TOKENS)))
        new = replace(one, name=NEW, target=replace(one.target, credential=credential))
        rounds += alternate([none, new], rounds=1, seconds=LOAD_S)
        if rounds[-1].load.requests > NEW_TOKENS:
            raise BenchmarkFailed("There were too few tokens; some were seen twice.")
    return rounds


def _document(rounds: list[Round], decisions: dict[str, float]) -> dict[str, Any]:
    found = {name: [one for one in rounds if one.system == name] for name in (NONE, PADDED, ONE, ROTATION, NEW)}
    base = {PADDED: found[NONE], ONE: found[NONE], ROTATION: found[NONE], NEW: found[NONE][-NEW_ROUNDS:]}
    ratios = {name: [_rate(a) / _rate(b) for a, b in zip(found[name], base[name], strict=False)] for name in base}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": described(),
        "systems": {name: spread(those) for name, those in found.items()},
        "ratios": {name: {"median": median(those), "all": sorted(those)} for name, those in ratios.items()},
        "decision_us": decisions,
        "other_cpus": [one.other_cpus for one in rounds],
        "floor": FLOOR,
    }


def _rate(one: Round) -> float:
    return one.load.requests / one.load.seconds


def _table(document: dict[str, Any]) -> str:
    lines = heading("of none", "µs to decide")
    for name, figures in document["systems"].items():
        ratio = document["ratios"].get(name)
        share = f"{ratio['median']:.3f} ({ratio['all'][0]:.2f} to {ratio['all'][-1]:.2f})" if ratio else ""
        lines.append(f"| {name} | {cells(figures)} | {share} | {document['decision_us'][name]:.1f} |")
    lines.append("")
    for name in JUDGED:
        verdict = "met" if document["ratios"][name]["median"] >= FLOOR else "MISSED"
        lines.append(f"{name} at least {FLOOR} of none: {verdict}")
    return "\n".join([*lines, *company(document["other_cpus"])])


if __name__ == "__main__":
    main()
