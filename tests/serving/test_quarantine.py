"""Artifacts that end the process that loads them, found out in a process of their own while neighbours are answered."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx_models
import pytest
from plane import MLP, SCALE, Plane
from servers_in_process import serving

from raymill.kernel.settings import ServingSettings
from raymill.serving.errors import ModelBroken, ModelQuarantined, ModelUnavailable
from raymill.serving.models.quarantine import Quarantine
from raymill.serving.published.table import Revision
from timing import until

CAPACITY = 2**28
# Stands for an artifact that breaks its loader: no such file is at hand for the release of onnxruntime in use.
ABORT = (sys.executable, "-c", "import os, sys; sys.stdin.read(); print('corrupted size', file=sys.stderr); os.abort()")


def quarantine(folder: Path, *, tries_all: bool = True, **more) -> Quarantine:
    return Quarantine(folder / "trials", capacity_bytes=CAPACITY, tries_all=tries_all, **more)


def revision(path: Path, number: int = 1) -> Revision:
    return Revision(
        number=1, format="onnx", uri="x", sha256=f"{number:064x}", size_bytes=path.stat().st_size, signature=SCALE
    )


@pytest.fixture
def scale(tmp_path) -> tuple[Revision, Path]:
    path = onnx_models.scale(tmp_path / "scale.onnx", 2.0)
    return revision(path), path


def test_what_stood_its_trial_is_not_tried_again(tmp_path, scale):
    first = quarantine(tmp_path)
    assert first.must_try(scale[0])
    first.try_out(*scale)
    assert not first.must_try(scale[0])
    assert not quarantine(tmp_path).must_try(scale[0])


def test_what_is_broken_is_refused_with_the_reason_and_kills_nobody(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    for _ in range(2):
        with pytest.raises(ModelBroken, match="cannot load") as refused:
            quarantine(tmp_path).try_out(revision(path), path)
        assert type(refused.value) is ModelBroken
    assert quarantine(tmp_path).must_try(revision(path))


def test_what_ends_two_processes_is_quarantined_until_a_later_revision_stands_trial(tmp_path, scale):
    with pytest.raises(ModelQuarantined, match=r"by signal 6\. corrupted size") as refused:
        quarantine(tmp_path, command=ABORT).try_out(*scale)
    assert refused.value.status == 503
    with pytest.raises(ModelQuarantined):
        quarantine(tmp_path, tries_all=False).must_try(scale[0])
    again = scale[0].model_copy(update={"made_at": time.time()})
    with pytest.raises(ModelQuarantined):
        quarantine(tmp_path, command=ABORT).try_out(again, scale[1])
    later = scale[0].model_copy(update={"made_at": time.time()})
    keeper = quarantine(tmp_path, tries_all=False)
    assert keeper.must_try(later)
    keeper.try_out(later, scale[1])
    with keeper.watch(later):
        assert len(list((tmp_path / "trials" / later.sha256).glob("death-*"))) == 4
    for cleared in (later, again, scale[0]):
        assert not keeper.must_try(cleared)


def test_what_eats_memory_is_stopped_at_the_bound(tmp_path):
    path = onnx_models.glutton(tmp_path / "glutton.onnx", gigabytes=4)
    with pytest.raises(ModelQuarantined, match="bytes that a load may take"):
        quarantine(tmp_path).try_out(revision(path), path)


def test_a_trial_knows_no_setting_or_secret(tmp_path, scale, monkeypatch):
    monkeypatch.setenv("RAYMILL_CONFIG_FILE", "/secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    script = "import os, sys; sys.stdin.read(); print(sorted(os.environ))"
    with pytest.raises(ModelBroken) as told:
        quarantine(tmp_path, command=(sys.executable, "-c", script)).try_out(*scale)
    assert "PYTHONPATH" in told.value.message
    assert "RAY" not in told.value.message


LOAD_AND_HANG = """
import sys
from pathlib import Path
from raymill.serving.models.quarantine import Quarantine
from raymill.serving.published.table import Revision
folder, revision = Path(sys.argv[1]), Revision.model_validate_json(sys.argv[2])
with Quarantine(folder / "trials", capacity_bytes=1, tries_all=True).watch(revision):
    print("loading", flush=True)
    sys.stdin.read()
"""


def die_loading(folder: Path, path: Path) -> None:
    """Let a process be killed while it loads."""
    command = [sys.executable, "-c", LOAD_AND_HANG, str(folder), revision(path).model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"loading\n"
        assert quarantine(folder)._deaths(revision(path).sha256) == []
        process.send_signal(signal.SIGKILL)


def test_what_a_server_died_of_stands_trial_again_and_the_innocent_are_cleared(tmp_path, scale):
    keeper = quarantine(tmp_path, tries_all=False)
    keeper.try_out(*scale)
    die_loading(tmp_path, scale[1])
    assert keeper.must_try(scale[0])
    keeper.try_out(*scale)
    assert not keeper.must_try(scale[0])
    with keeper.watch(scale[0]):
        pass
    [proof] = (tmp_path / "trials" / scale[0].sha256).iterdir()
    assert proof.name.startswith("proven-")


def test_another_warm_up_request_stands_a_trial_of_its_own(tmp_path, scale):
    keeper = quarantine(tmp_path)
    keeper.try_out(*scale)
    assert not keeper.must_try(scale[0])
    assert keeper.must_try(scale[0].model_copy(update={"example": ([1.0, 2.0],)}))


def test_servers_that_died_together_make_one_death(tmp_path, scale):
    notes = [tmp_path / "trials" / scale[0].sha256 / f"loading-{n}" for n in range(4)]
    notes[0].parent.mkdir(parents=True)
    for note in notes:
        note.touch()
    keeper = quarantine(tmp_path, tries_all=False)
    assert keeper.must_try(scale[0])
    keeper.try_out(*scale)
    assert not keeper.must_try(scale[0])


def test_a_stop_during_a_trial_says_nothing_of_the_artifact(tmp_path, scale):
    keeper = quarantine(tmp_path, command=(sys.executable, "-c", "import sys, time; sys.stdin.read(); time.sleep(60)"))
    trial = keeper.executor.submit(keeper.try_out, *scale)
    until(lambda: keeper._running)
    keeper.close()
    with pytest.raises(ModelUnavailable):
        trial.result(timeout=20)
    assert not list((tmp_path / "trials").glob("*/death-*"))


def test_a_death_in_a_server_and_one_on_trial_are_two(tmp_path, scale):
    die_loading(tmp_path, scale[1])
    with pytest.raises(ModelQuarantined, match="ended 2 processes"):
        quarantine(tmp_path, tries_all=False, command=ABORT).try_out(*scale)


def test_a_disk_that_takes_no_records_is_no_reason_not_to_serve(tmp_path, scale):
    (tmp_path / "trials").write_text("a file where the folder should be")
    keeper = quarantine(tmp_path)
    keeper.try_out(*scale)
    with keeper.watch(scale[0]):
        pass


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["abort", "memory"])
def test_neighbours_are_answered_while_an_artifact_ends_its_processes(tmp_path, kind):
    plane = Plane(tmp_path / "home", serving=ServingSettings(cache_bytes=CAPACITY, try_models="all"))
    plane.grants()
    plane.endpoint("digits.mlp", plane.revision(onnx_models.mlp(tmp_path / "mlp.onnx"), MLP))
    glutton = onnx_models.glutton(tmp_path / "glutton.onnx", gigabytes=4)
    plane.endpoint("digits.glutton", plane.revision(glutton, SCALE), endpoint_id="dep_2")
    row = [[0.1, 0.2, 0.3, 0.4]]

    async def run():
        async with serving(plane) as running:
            headers = plane.bearer()
            assert (await running.infer("digits.mlp", row, headers)).status_code == 200
            if kind == "abort":
                running.parts.quarantine._command = ABORT
            bad = asyncio.create_task(running.infer("digits.glutton", [[1.0]], headers, input="x"))
            statuses, longest_s = [], 0.0
            while not bad.done():
                begun = time.perf_counter()
                statuses.append((await running.infer("digits.mlp", row, headers)).status_code)
                longest_s = max(longest_s, time.perf_counter() - begun)
                # Two hundred a second leave the trial some of the machine.
                await asyncio.sleep(0.005)
            return await bad, statuses, longest_s

    bad, statuses, longest_s = asyncio.run(run())
    assert bad.status_code == 503
    assert "quarantined" in bad.json()["message"]
    assert len(statuses) >= 3
    assert set(statuses) == {200}
    assert longest_s < 1.0
