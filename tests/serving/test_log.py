"""The inference log: bounded, sampled, written as Parquet."""

import asyncio
import json
import signal
import subprocess
import sys
from io import BytesIO

import pytest
from plane import Plane
from pyarrow import parquet
from servers_in_process import serving

from raymill.serving.published.table import LogPolicy
from raymill.serving.records.journal import to_parquet
from raymill.serving.records.log import FORM, PAYLOAD_BYTES, InferenceLog, Row, is_sampled, payload

INFER = "/v2/models/digits.mlp/infer"
GOOD = {"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


def row(number: int, *, project: str = "prj_1", inputs: bytes | None = None) -> Row:
    return Row(
        1_780_000_000.25 + number,
        b"req_%d" % number,
        project,
        "dep_1",
        "p.m",
        1,
        "usr_1",
        0.0015,
        200,
        None,
        inputs,
        None,
    )


def read_log(plane: Plane, project: str = "prj_1") -> list[dict]:
    uris = plane.store.list_documents(f"{project}/inference-log")
    tables = [parquet.read_table(BytesIO(plane.store.get_document(uri))) for uri in uris]
    return sorted((each for table in tables for each in table.to_pylist()), key=lambda each: each["time"])


def test_requests_are_logged_with_their_payloads(digits):
    async def run():
        async with serving(digits) as running:
            headers = digits.bearer() | {"X-Request-ID": "first"}
            answer = await running.client.post(INFER, json=GOOD, headers=headers)
            await running.client.post(INFER, content=b"{bad \xff", headers=digits.bearer())
            await running.client.post(INFER, json=GOOD)
            return answer

    answer = asyncio.run(run())
    good, bad = read_log(digits)
    assert (good["request_id"], good["endpoint"], good["endpoint_id"]) == ("first", "digits.mlp", "dep_1")
    assert (good["revision"], good["principal"], good["status"], good["error"]) == (1, "usr_dev", 200, None)
    assert good["latency_ms"] > 0
    assert json.loads(good["inputs"]) == GOOD
    assert good["outputs"] == answer.text
    assert (bad["status"], bad["error"], bad["inputs"], bad["outputs"]) == (400, "VALIDATION_ERROR", "{bad �", "")


def test_each_project_has_its_own_files(plane):
    log = InferenceLog(plane.store, "srv", max_rows=10)
    for number, project in enumerate(["prj_1", "prj_2", "prj_1"]):
        log.append(row(number, project=project))
    asyncio.run(log.flush())
    asyncio.run(log.flush())
    assert [each["request_id"] for each in read_log(plane)] == ["req_0", "req_2"]
    assert [each["request_id"] for each in read_log(plane, "prj_2")] == ["req_1"]
    assert read_log(plane)[0]["time"].isoformat() == "2026-05-28T20:26:40.250000+00:00"


def test_the_oldest_rows_are_dropped_and_counted(plane):
    log = InferenceLog(plane.store, "srv", max_rows=3, max_payload_bytes=100)
    for number in range(5):
        log.append(row(number))
    assert log.dropped == 2
    log.append(row(5, inputs=b"x" * 60))
    log.append(row(6, inputs=b"x" * 60))
    asyncio.run(log.flush())
    assert [each["request_id"] for each in read_log(plane)] == ["req_6"]
    assert log.dropped == 6


def test_a_half_full_buffer_is_written_before_its_time(plane):
    async def run():
        log = InferenceLog(plane.store, "srv", max_rows=4)
        for number in range(3):
            log.append(row(number))
        await asyncio.wait_for(log.wait(3600), 5)
        await log.flush()
        log.append(row(3))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.wait(3600), 0.05)

    asyncio.run(run())
    assert len(read_log(plane)) == 3


def test_a_store_that_fails_loses_nothing_within_the_bound(plane):
    blocked = plane.home / "objects" / "prj_1" / "inference-log"
    blocked.parent.mkdir(parents=True)
    blocked.touch()
    log = InferenceLog(plane.store, "srv", max_rows=3)

    async def run():
        log.append(row(0))
        log.append(row(1))
        await log.flush()
        log.append(row(2))
        log.append(row(3))
        blocked.unlink()
        await log.flush()

    asyncio.run(run())
    assert [each["request_id"] for each in read_log(plane)] == ["req_1", "req_2", "req_3"]
    assert log.dropped == 1


@pytest.mark.parametrize(
    ("policy", "low", "high"), [((1.0, False), 0, 0), ((0.0, True), 0, 0), ((1.0, True), 1000, 1000)]
)
def test_sampling_at_its_ends(policy, low, high):
    rate, payloads = policy
    sampled = sum(is_sampled(LogPolicy(sample_rate=rate, payloads=payloads), b"req_%d" % n) for n in range(1000))
    assert low <= sampled <= high


def test_sampling_keeps_its_share():
    policy = LogPolicy(sample_rate=0.2, payloads=True)
    assert 150 < sum(is_sampled(policy, b"req_%d" % number) for number in range(1000)) < 250


def test_a_large_payload_is_left_out():
    assert payload(b"x" * PAYLOAD_BYTES)
    assert payload(b"x" * (PAYLOAD_BYTES + 1)) is None


def test_writing_many_rows_keeps_their_order():
    table = parquet.read_table(BytesIO(to_parquet(FORM, [row(number) for number in range(1234)])))
    assert table.column("request_id").to_pylist() == [f"req_{number}" for number in range(1234)]


def test_writing_the_log_does_not_import_pandas():
    code = (
        "import sys;"
        "from raymill.serving.records.journal import to_parquet; from raymill.serving.records.log import FORM, Row;"
        "to_parquet(FORM, [Row(1.0, b'r', 'p', 'd', 'p.m', 1, 'u', 0.1, 200, None, None, None)]);"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_is_answered_that_would_be_missing_in_the_log(digits):
    async def run():
        async with serving(digits) as running:
            answers = [await running.client.post(INFER, json=GOOD, headers=digits.bearer())]
            running.parts.inference_log.flush_at_exit()
            return [*answers, await running.client.post(INFER, json=GOOD, headers=digits.bearer())]

    answered, refused = asyncio.run(run())
    assert (answered.status_code, refused.status_code, refused.headers["Retry-After"]) == (200, 503, "1")
    assert [each["request_id"] for each in read_log(digits)] == [answered.headers["X-Request-ID"]]


ENDED = """
import asyncio, os, signal, sys, threading, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from plane import Plane
from raymill.kernel.settings import ServingSettings
from servers_in_process import serving
from test_log import GOOD, INFER

async def run(ready):
    plane = Plane(Path(sys.argv[1]), serving=ServingSettings(try_models="suspects", log_flush_s=3600))
    async with serving(plane) as running:
        for number in range(50):
            headers = plane.bearer() | {"X-Request-ID": f"last-{number}"}
            assert (await running.client.post(INFER, json=GOOD, headers=headers)).status_code == 200
        ready.set()
        await asyncio.sleep(3600)

# As in a worker of Ray: the loop in a thread, and SIGTERM ends the interpreter.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
ready = threading.Event()
threading.Thread(target=lambda: asyncio.run(run(ready)), daemon=True).start()
# In one write, for the loop's thread logs to the same pipe.
os.write(1, b"ready\\n" if ready.wait(60) else b"not ready\\n")
# Not by signal.pause(): a signal just before it would be waited for in vain.
while True:
    time.sleep(0.1)
"""


def test_a_process_that_is_told_to_end_writes_its_rows_away(digits):
    paths = [path for path in sys.path if path.endswith("tests") or path.endswith("serving")]
    command = [sys.executable, "-c", ENDED, str(digits.home), *paths]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert next(line for line in process.stdout if "ready" in line) == "ready\n"
            assert read_log(digits) == []
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 1
        finally:
            process.kill()
    assert sorted(each["request_id"] for each in read_log(digits)) == sorted(f"last-{number}" for number in range(50))


def test_the_last_writing_may_use_threads_as_a_store_on_the_network_does():
    code = (
        "from concurrent.futures import ThreadPoolExecutor; from weakref import WeakMethod\n"
        "from raymill.serving.parts import _call_at_exit\n"
        "class Last:\n"
        "    def write(self): ThreadPoolExecutor().submit(print, 'written').result()\n"
        "last = Last(); _call_at_exit(WeakMethod(last.write)); raise SystemExit"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "written\n", done.stderr
