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
returned = threading.Event()
class Hung:
    def nvmlInit(self):
        time.sleep(3600)
        returned.set()
for nvml in (Broken(), Hung()):
    with block(nvml=nvml) as doctor:
        for x, y in loader(6):
            train(x, y)
    if not PLAIN:
        assert doctor.path.is_file(), doctor.notes
        assert not returned.is_set()
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
    assert [(window.kind, window.steps) for window in written.facts.windows] == [("timing", 5), ("shapes", 1)]


# Each names what fails, in every step that asks for it, and what the report says of it.
FACTS = {
    "capture.facts.loop.described": "an optimizer could not be described",
    "capture.loop.signs._kind": "an optimizer could not be compared with others",
    "capture.loop.signs.loops_around": "the loops could not be found",
    "capture.loop.signs.optimizer_exists": "optimizers could not be looked for",
    "capture.loop.run_sampler.RunSampler.edge": "the run could not be watched",
    "capture.loop.run_sampler.RunSampler.start": "the run could not be watched",
    "capture.loop.stack_sampler.StackSampler.start": "lines could not be sampled",
    "capture.loop.stack_sampler.StackSampler.stop": "lines could not be sampled",
    "capture.samplers.busy_now": "processor times could not be read",
    "capture.facts.repeated_calls.RepeatedCalls.watch": "calls of modules could not be watched",
    "capture.facts.repeated_calls.RepeatedCalls.remove": "calls of modules could not be left alone",
    "capture.facts.in_step.precision": "the settings could not be read",
    "capture.facts.gradient_fates.read_graph": "a graph was not read",
    "capture.seen.nodes_behind": "a graph was not read",
    "capture.loop.children.Children.watch": "child processes could not be noted",
    "capture.loop.children.Children.stop": "child processes could not be left alone",
    "capture.loop.worker_looks.WorkerLooks.start": "the loader's workers could not be looked at",
    "capture.loop.worker_looks.WorkerLooks.read": "what the loader's workers told could not be read",
    "capture.loop.worker_looks.WorkerLooks.stop": "the loader's workers could not be left alone",
    "capture.device.watch.DeviceWatch.stop": "the device sampler could not be stopped",
    "capture.seen.compiled_now": "the settings could not be read",
    "capture.seen.Seen.steps_ahead": "the length of the run is not known",
    "capture.profiler.recording.Recording.calls": "the work of the recorded steps could not be compared",
    "capture.profiler.session.Session.events": "the events of a step could not be counted",
}
FAILING = """
class Speechless(Exception):
    def __str__(self): raise OSError("nor can it say why")

def broken(fact):
    import importlib, mfu_doctor.session.profile
    *place, name = fact.split(".")
    of = importlib.import_module("mfu_doctor." + ".".join(part for part in place if part.islower()))
    for part in place:
        of = of if part.islower() else getattr(of, part)
    asked, own = [], getattr(of, name)
    def fails(*args, **kwargs):
        asked.append(1)
        raise Speechless
    setattr(of, name, fails)
    return asked, lambda: setattr(of, name, own)

for number, fact in enumerate(FACTS):
    asked, mend = ([], id) if PLAIN else broken(fact)
    with block(f"{number}.pt.trace.json.gz") as doctor:
        for x, y in loader(24):
            train(x, y)
    if not PLAIN:
        mend()
        print(fact, "was asked" if asked else "was never asked")
"""


@pytest.mark.parametrize("part", range(4))
def test_a_fact_that_cannot_be_read_costs_that_fact_alone(zygote: Zygote, tmp_path: Path, part: int) -> None:
    failing = dict(list(FACTS.items())[part::4])
    watched, _ = with_and_without(zygote, tmp_path, f"FACTS = {list(failing)}\n{FAILING}")
    assert (watched.code, watched.err) == (0, "")
    assert "never" not in watched.out
    for number, (fact, said) in enumerate(failing.items()):
        facts = read(tmp_path / "ours" / f"{number}.pt.trace.json.gz").facts
        assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 5), ("shapes", 1)], fact
        assert facts.whole_run is not None, fact
        assert facts.whole_run.steps == 24, fact
        assert f"{said}: Speechless" in facts.notes, fact


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
    from mfu_doctor.session.profile import DEFAULT
    from mfu_doctor.session.recorder import Recorder
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
            if i == 10 and not PLAIN:  # ticks of the sampler with the answer; one that is not known is asked for by its name
                call = "nvmlDeviceGetClockInfo" if uuid == "1" else "nvmlDeviceGetHandleByUUID"
                enough = nvml.calls[call] + 4 if uuid == "1" else 1
                while nvml.calls[call] < enough: time.sleep(0.01)
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
