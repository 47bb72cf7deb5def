"""Disks that cannot be written, NVML that breaks or hangs, objects that fight back: each costs a note, never the training."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.capture.programs import LOOP, PRELUDE, TRACE, ours, read, with_and_without
from tests.capture.zygote import Zygote


def test_a_place_that_cannot_be_written_costs_only_a_note(zygote: Zygote, tmp_path: Path) -> None:
    body = """
for number, path in enumerate(["/proc/nowhere/out.json.gz", "/dev/full", "a_file/out.json.gz"]):
    open("a_file", "w").close()
    with block(path) as doctor:
        for x, y in loader(6):
            train(x, y)
    if not PLAIN:
        print(number, doctor.path and doctor.path.is_file(), [n for n in doctor.notes if "could not be written" in n])
        doctor.path.unlink()
assert os.path.exists("/dev/full") and not os.path.isfile("/dev/full")
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err
    lines = [line for line in watched.out.splitlines() if not line.startswith("loss")]
    assert all("True" in line and "the trace was written to" in line for line in lines), lines
    assert len(lines) == 3


def test_a_deleted_working_directory_costs_only_a_note(zygote: Zygote, tmp_path: Path) -> None:
    body = """
import shutil, tempfile
gone = tempfile.mkdtemp()
os.chdir(gone)
shutil.rmtree(gone)
with block() as doctor:
    for x, y in loader(6):
        train(x, y)
if not PLAIN:
    assert doctor.path.is_file(), doctor.notes
    print(doctor.path.parent == __import__("pathlib").Path(tempfile.gettempdir()))
    doctor.path.unlink()
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err
    assert "True" in watched.out


def test_a_full_disk_keeps_the_report_possible(zygote: Zygote, tmp_path: Path) -> None:
    body = """
with block("tiny/out.pt.trace.json.gz") as doctor:
    for x, y in loader(24):
        train(x, y)
if not PLAIN:
    print(doctor.path, doctor.notes)
"""
    tiny = tmp_path / "ours" / "tiny"
    (tmp_path / "ours").mkdir()
    tiny.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(tiny)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tiny file system needs root")
    try:
        watched = zygote.run(PRELUDE + body, tmp_path / "ours")
        assert watched.code == 0, watched.err
        assert "No space left" in watched.out
        assert "the trace was written to /tmp" in watched.out
        assert not list(tiny.iterdir())
        read(Path(watched.out.splitlines()[-1].split()[0])).facts.windows[1]
        Path(watched.out.splitlines()[-1].split()[0]).unlink()
    finally:
        subprocess.run(["umount", str(tiny)], check=True)


def test_failures_of_ours_become_notes(zygote: Zygote, tmp_path: Path) -> None:
    body = """
class Broken:
    def __getattr__(self, name): raise RuntimeError("broken " + name)
class Hung:
    def nvmlInit(self): time.sleep(30)
for nvml in (Broken(), Hung()):
    started = time.monotonic()
    with block(nvml=nvml) as doctor:
        for x, y in loader(6):
            train(x, y)
    if not PLAIN:
        assert doctor.path.is_file(), doctor.notes
        assert time.monotonic() - started < 20
# A batch that fights back, and an optimizer that does: neither can be described, both can be trained with.
class Batch(list):
    @property
    def shape(self): raise OSError("no shape")
class Odd(torch.optim.SGD):
    @property
    def param_groups(self): return self._groups if sys._getframe(1).f_code.co_name != "described" else 1 / 0
    @param_groups.setter
    def param_groups(self, value): self._groups = value
optimizer = Odd(model.parameters(), lr=0.1)
with block() as doctor:
    for batch in DataLoader(list(range(24 * 4)), 4, collate_fn=Batch):
        x = torch.tensor(batch, dtype=torch.float32)[:, None].expand(4, 8).cos()
        train(x, torch.tensor(batch) % 4)
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err
    written = read(tmp_path / "ours" / TRACE)
    assert any("no shape" in note for note in written.facts.notes)
    assert any("division by zero" in note for note in written.facts.notes)


def test_names_that_kineto_leaves_unescaped_still_give_valid_json(zygote: Zygote, tmp_path: Path) -> None:
    body = LOOP.replace(
        "        train(x, y)", "        with torch.profiler.record_function('say \"hi\", then'): train(x, y)"
    )
    with_and_without(zygote, tmp_path, body)
    assert len(ours(tmp_path).named('say "hi", then')) == 6


def test_the_sampler_is_told_which_gpu_is_the_ranks_own_at_the_step_that_first_uses_it(
    zygote: Zygote, tmp_path: Path
) -> None:
    """Two GPUs, the rank uses the second, CUDA comes up in the middle of the loop; then one that NVML does not know."""
    body = """
sys.path.insert(0, os.environ["PYTHONPATH"])
if not PLAIN:
    from mfu_doctor.capture.seen import Request
    from mfu_doctor.capture.destination import Destination
    from mfu_doctor.session.recorder import DEFAULT, Recorder
    from mfu_doctor.facts import GivenNumbers
    from tests.capture.fake_nvml import FakeNvml
used = []
for uuid in ("1", "7"):
    used.clear()
    recorder = block()
    if not PLAIN:
        nvml = FakeNvml(2)
        if uuid == "7":
            import pynvml
            nvml.errors["nvmlDeviceGetHandleByUUID"] = pynvml.NVMLError_NotFound
        request = Request(asked=DEFAULT, destination=Destination.of(f"{uuid}.pt.trace.json.gz"), site="here",
                          given=GivenNumbers(), nvml=nvml, current_devices=lambda: tuple(used) or None)
        recorder = Recorder(request, print_report=False, enabled=True, yields=False)
    with recorder:
        for i, (x, y) in enumerate(loader(24)):
            if i == 6: used.append(uuid)
            if i == 10: time.sleep(0.4)  # ticks of the sampler
            train(x, y)
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err
    known = read(tmp_path / "ours" / "1.pt.trace.json.gz").facts
    assert [sample.device for sample in known.samples] == ["GPU-1"]
    assert known.samples[0].time_ns
    assert known.sampler_status == "stopped"
    unknown = read(tmp_path / "ours" / "7.pt.trace.json.gz").facts
    assert [(sample.device, sample.time_ns, sample.status) for sample in unknown.samples] == [("7", (), "unavailable")]
    assert "device samples: NVML does not know the GPU of this process (7)" in unknown.notes
