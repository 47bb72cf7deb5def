"""A run that is killed or interrupted leaves nothing half-written, no temporary files, and a word on what it had seen."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

from mfu_doctor.capture.export import scratch as scratch_room
from mfu_doctor.errors import NotATraceError
from mfu_doctor.facts import PARTIAL, Facts
from mfu_doctor.reading import read_trace
from tests.capture.programs import LOOP, PRELUDE, TRACE, read
from tests.capture.zygote import Zygote

# The program's own temporary directory, so that what stays there is seen.
TEMPORARY = """
import signal, tempfile
os.makedirs("temporary", exist_ok=True)
tempfile.tempdir = os.path.abspath("temporary")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which the tests may run, ignores it for all below
from mfu_doctor.capture.export import so_far
so_far._EVERY_S = 3600  # it is written when a phase ends, however long the steps take
"""
ENDING = LOOP.replace("for x, y in loader(24):", "for i, (x, y) in enumerate(loader(24)):")


def left_in(folder: Path) -> list[str]:
    """What a program left there, and in its temporary directory."""
    own = {"program.py", "out.txt", "err.txt", "temporary"}
    return sorted(path.name for path in (*folder.iterdir(), *(folder / "temporary").iterdir()) if path.name not in own)


@pytest.mark.parametrize("sent", ["SIGKILL", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(("step", "seen"), [(1, 1), (10, 10), (16, 13)])  # before, between and in the windows
def test_a_killed_run_leaves_what_was_seen(zygote: Zygote, tmp_path: Path, sent: str, step: int, seen: int) -> None:
    kill = f"        if i == {step}: os.kill(os.getpid(), signal.{sent}); time.sleep(60)\n"
    ran = zygote.run(PRELUDE + TEMPORARY + ENDING + kill, tmp_path)
    assert ran.code == -getattr(signal, sent)
    assert left_in(tmp_path) == [TRACE + PARTIAL]
    program = rf"its program \(process \d+ on {re.escape(socket.gethostname())}\)"
    said = rf"{PARTIAL} holds no recorded step: when {program} was last heard of, {seen} of the 20 steps .* had ended"
    with pytest.raises(NotATraceError, match=said):
        read_trace(tmp_path / (TRACE + PARTIAL))
    with pytest.raises(NotATraceError, match=rf"does not exist: read .*{PARTIAL}, which says how far"):
        read_trace(tmp_path / TRACE)
    facts = msgspec.convert(json.loads((tmp_path / (TRACE + PARTIAL)).read_bytes())["mfu_doctor"], Facts)
    assert facts.whole_run is not None
    assert not facts.whole_run.ended


def test_a_run_that_is_killed_before_its_first_step_leaves_nothing(zygote: Zygote, tmp_path: Path) -> None:
    assert zygote.run(PRELUDE + TEMPORARY + ENDING + "        os.kill(os.getpid(), 9)\n", tmp_path).code == -9
    assert left_in(tmp_path) == []


# Where the end of a recording is cut off: when its windows are on the disk, and while the trace is written.
CUTS = {
    "the windows are written": """
from mfu_doctor.capture.export import export
def cut(path, own=export.Export.check):
    END
export.Export.check = cut
""",
    "the trace is written": """
from mfu_doctor.capture.export import export
def cut(exports, target, facts, *, name, own=export.merge):
    own(exports, target, facts, name=name)
    target.flush()
    END
export.merge = cut
""",
}


@pytest.mark.parametrize("when", CUTS)
def test_a_run_that_is_killed_in_its_export_leaves_the_former_trace_and_the_next_one_sweeps(
    zygote: Zygote, tmp_path: Path, when: str
) -> None:
    (tmp_path / TRACE).write_bytes(b"former")
    cut = CUTS[when].replace("END", "os.kill(os.getpid(), 9)")
    assert zygote.run(PRELUDE + TEMPORARY + cut + LOOP, tmp_path).code == -9
    windows, *rest = left_in(tmp_path)
    assert windows.startswith(".mfu-doctor-windows-")
    assert rest == [TRACE, TRACE + PARTIAL]
    assert (tmp_path / TRACE).read_bytes() == b"former"
    with pytest.raises(NotATraceError, match="its trace was being written"):
        read_trace(tmp_path / (TRACE + PARTIAL))
    assert zygote.run(PRELUDE + TEMPORARY + LOOP, tmp_path).code == 0
    assert left_in(tmp_path) == [TRACE]
    assert read(tmp_path / TRACE).facts.windows[0].steps == 5


@pytest.mark.parametrize("when", CUTS)
@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_in_the_export_is_the_users(zygote: Zygote, tmp_path: Path, when: str, *, twice: bool) -> None:
    """It arrives in the loop, or replaces the first one; hooks, threads and profiler are gone, and another block records."""
    body = """
from torch.utils.data import dataloader
train(*next(iter(loader(1))))  # a first optimizer registers what it needs
def world():
    return (dataloader._BaseDataLoaderIter.__next__, torch.autograd._engine_run_backward,
            sorted(thread.name for thread in threading.enumerate()), torch._C._autograd._profiler_enabled())
before = world()
try:
    with block() as doctor:
        for i, (x, y) in enumerate(loader(24)):
            train(x, y)
            if i == TWICE: raise KeyboardInterrupt
except KeyboardInterrupt: print("loss interrupted", world() == before)
put_back()
with block("second.pt.trace.json.gz") as second:
    for x, y in loader(24): train(x, y)
"""
    cut = CUTS[when].replace("END", "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)")
    own = cut.splitlines()[-1].partition(" = ")[0]
    back = f"\nfrom mfu_doctor.capture.export import export\nkept = {own}\ndef put_back(): {own} = kept\n"
    ran = zygote.run(PRELUDE + TEMPORARY + back + cut + body.replace("TWICE", "14" if twice else "-1"), tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert "loss interrupted True" in ran.out
    assert left_in(tmp_path) == [TRACE + PARTIAL, "second.pt.trace.json.gz"]
    assert read(tmp_path / "second.pt.trace.json.gz").facts.windows[0].steps == 5


def test_what_another_machine_is_writing_is_left_alone_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster shares a directory, and its machines need not see each other's locks."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch_room, "_BOOT", tmp_path / "boot")
    folders = {}
    for machine in ("one", "other"):
        (tmp_path / "boot").write_text(f"{machine}\n")
        with scratch_room.scratch(tmp_path / "out") as made:
            assert made is not None
            folders[machine] = tmp_path / made.name
    for folder in folders.values():
        folder.mkdir()
    (tmp_path / "boot").write_text("one\n")
    with scratch_room.scratch(tmp_path / "out"):
        assert [folder.exists() for folder in folders.values()] == [False, True]
    yesterday = time.time() - 100_000
    os.utime(folders["other"], (yesterday, yesterday))
    with scratch_room.scratch(tmp_path / "out"):
        assert not folders["other"].exists()
