"""The annotated trace: the original in full, our answers on top, valid for viewers and for our own reader."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edits import (
    Change,
    DropWaits,
    Edit,
    MergeLaunches,
    MoveToStream,
    PaceWorkers,
    ScaleDevice,
    ScaleHost,
    SetDevice,
    ShortenHost,
)
from mfu_doctor.analysis.run import Run
from mfu_doctor.annotation.annotate import annotate
from mfu_doctor.annotation.perfetto import PID, render_perfetto
from mfu_doctor.annotation.remarks import Annotations, worst_spots
from mfu_doctor.arrays.intervals import Intervals, union
from mfu_doctor.errors import DoctorError
from mfu_doctor.reading import read_trace
from mfu_doctor.result.step import IDLE_CAUSES
from tests.sample_device import samples
from tests.timeline import Timeline
from tests.traces import real_trace

SECRET = "AWS_SECRET_ACCESS_KEY=hunter2"
STEPS = 4


def recorded(tmp_path: Path, **header: Any) -> Path:
    """A trace of a loader-bound run, with flows, names of processes and an environment in its metadata."""
    timeline = Timeline()
    for _ in range(STEPS):
        with timeline.step():
            timeline.fetch(4000)
            for _ in range(20):
                timeline.op("aten::mm", kernel=60)
            timeline.item()
    data = timeline.json() | header
    extra = [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "ts": 0, "args": {"name": "python"}},
        {"ph": "s", "id": 1, "pid": 1, "tid": 100, "ts": 4010, "cat": "ac2g", "name": "ac2g"},
    ]
    data["traceEvents"] = [*extra, *data["traceEvents"]]
    data["metadata"] = {"env": SECRET}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data))
    return path


def load(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    data: dict[str, Any] = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    return data


def ours(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [e for e in data["traceEvents"] if e.get("pid") == PID]


def test_every_original_event_is_kept_in_order(tmp_path: Path) -> None:
    source, target = recorded(tmp_path), tmp_path / "marked.json"
    annotate(source, target)
    before, after = load(source)["traceEvents"], load(target)["traceEvents"]
    assert [e for e in after if e.get("pid") != PID] == before


def test_our_process_is_named_and_on_top(tmp_path: Path) -> None:
    target = tmp_path / "marked.json"
    annotate(recorded(tmp_path), target)
    names = {(e["name"], e["args"].get("name")) for e in ours(load(target)) if e["ph"] == "M"}
    assert ("process_name", "mfu-doctor") in names
    assert {name for kind, name in names if kind == "thread_name"} == {
        "steps",
        "time without compute, by cause",
        "findings",
    }


def test_every_idle_gap_has_its_owner(tmp_path: Path) -> None:
    """The blocks of a step sum to what the split says, and data loading is among them."""
    source, target = recorded(tmp_path), tmp_path / "marked.json"
    annotate(source, target)
    blocks = [e for e in ours(load(target)) if e["ph"] == "X" and e["tid"] == 2]
    run = Run(read_trace(source))
    idle = sum(run.breakdown.owners[c].total_ns for c in ("data_loading", "memory_copy", *IDLE_CAUSES))
    assert sum(e["dur"] for e in blocks) == pytest.approx(idle / 1000)
    assert "data loading: the next batch is not ready" in {e["name"] for e in blocks}
    starts = [e["ts"] for e in blocks]
    assert starts == sorted(starts)


def test_blocks_lie_where_the_gaps_are_in_the_file(tmp_path: Path) -> None:
    """On the file's own clock: no block overlaps a kernel of the original, whatever the base time."""
    source, target = recorded(tmp_path, baseTimeNanoseconds=1_795_000_000_000_000_000), tmp_path / "marked.json"
    annotate(source, target)
    data = load(target)
    kernels = [(e["ts"], e["ts"] + e["dur"]) for e in data["traceEvents"] if e.get("cat") == "kernel"]
    blocks = [(e["ts"], e["ts"] + e["dur"]) for e in ours(data) if e["ph"] == "X" and e["tid"] == 2]
    assert blocks
    assert not [1 for a, b in blocks for c, d in kernels if a < d and c < b]


def test_findings_stand_at_their_worst_spots(tmp_path: Path) -> None:
    target = tmp_path / "marked.json"
    done = annotate(recorded(tmp_path), target)
    found = [e for e in ours(load(target)) if e["ph"] == "i"]
    fetches = [e for e in load(target)["traceEvents"] if "DataLoader" in str(e.get("name"))]
    mine = [e for e in found if e["name"] == "input-bound"]
    assert done.findings >= 1
    assert mine
    assert all(any(f["ts"] <= e["ts"] <= f["ts"] + f["dur"] for f in fetches) for e in mine)
    assert all(e["s"] == "t" and e["args"]["fix"] for e in found)


def test_our_reader_sees_the_same_run(tmp_path: Path) -> None:
    """Annotating changes no number: the annotated file is diagnosed as the original is."""
    source, target = recorded(tmp_path), tmp_path / "marked.json.gz"
    annotate(source, target)
    first, second = Run(read_trace(source)), Run(read_trace(target))
    assert second.breakdown.steps == first.breakdown.steps
    assert second.trace.devices == first.trace.devices
    assert second.trace.problems == first.trace.problems


def test_annotating_twice_keeps_one_process(tmp_path: Path) -> None:
    """The process of an earlier annotation is replaced, not doubled."""
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    annotate(recorded(tmp_path), first)
    annotate(first, second)
    assert len(ours(load(second))) == len(ours(load(first)))


def test_name_decides_about_gzip(tmp_path: Path) -> None:
    source = recorded(tmp_path)
    annotate(source, tmp_path / "a.json.gz")
    annotate(source, tmp_path / "a.json")
    assert (tmp_path / "a.json.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert load(tmp_path / "a.json.gz") == load(tmp_path / "a.json")


def test_a_cut_keeps_only_its_steps(tmp_path: Path) -> None:
    """Events outside are gone, names of processes stay, and the cut can be diagnosed."""
    source, target = recorded(tmp_path), tmp_path / "cut.json"
    done = annotate(source, target, steps=(1, 2))
    data = load(target)
    assert done.steps == 1
    assert done.kept < done.events
    assert target.stat().st_size < source.stat().st_size
    assert {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "ts": 0, "args": {"name": "python"}} in data[
        "traceEvents"
    ]
    assert "ProfilerStep#1" in {e["name"] for e in data["traceEvents"]}
    assert "ProfilerStep#3" not in {e["name"] for e in data["traceEvents"]}
    assert Run(read_trace(target)).steps.count >= 1


def test_environment_of_the_recording_is_not_copied(tmp_path: Path) -> None:
    target = tmp_path / "marked.json"
    annotate(recorded(tmp_path), target)
    assert SECRET.partition("=")[0] not in target.read_text()
    assert set(load(target)) <= {
        "schemaVersion",
        "displayTimeUnit",
        "traceEvents",
        "deviceProperties",
        "distributedInfo",
    }


def test_the_trace_itself_is_never_overwritten(tmp_path: Path) -> None:
    source = recorded(tmp_path)
    before = source.read_bytes()
    with pytest.raises(DoctorError, match="is an input file"):
        annotate(source, source)
    assert source.read_bytes() == before


def test_nothing_is_left_when_a_step_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DoctorError, match="no recorded step"):
        annotate(recorded(tmp_path), tmp_path / "cut.json", steps=(90, 91))
    assert list(tmp_path.iterdir()) == [tmp_path / "run.json"]


def test_a_damaged_trace_becomes_a_valid_one(tmp_path: Path) -> None:
    """A file that was cut off is still annotated, and what is written parses."""
    source, target = recorded(tmp_path), tmp_path / "marked.json"
    text = source.read_text()
    source.write_text(text[: int(len(text) * 0.8)])
    annotate(source, target)
    assert len(load(target)["traceEvents"]) > 100


def test_device_readings_become_counters() -> None:
    """On the file's clock, in shown units, without a zero where a reading is missing."""
    found = samples()
    origin = found.time_ns[0] - 5_000_000
    notes = Annotations((), (("idle", union(np.zeros(0, np.int64), np.zeros(0, np.int64))),), (), (found,), origin)
    events = [json.loads(text) for text in render_perfetto(notes, 7_000_000)]
    busy = [e for e in events if e["ph"] == "C" and "busy" in e["name"]]
    memory = [e for e in events if e["ph"] == "C" and "memory in use" in e["name"]]
    assert busy[0]["ts"] == 12_000
    assert len(busy) == 114
    assert memory[0]["args"]["value"] == pytest.approx(51.0)
    unplaced = replace(notes, origin_ns=0)
    assert not [text for text in render_perfetto(unplaced, 0) if b'"ph":"C"' in text]


def test_worst_spots_are_the_dearest_of_each_kind_of_edit() -> None:
    """Each edit knows what it saves where; spots outside the window do not count."""
    timeline = Timeline()
    for us in (100, 300, 200):
        timeline.op("aten::mm", kernel=us)
    trace = timeline.trace()
    kernels = np.flatnonzero(trace.events.category == 4)
    length = (trace.events.end - trace.events.start)[kernels]
    host = Intervals(np.array([0, 50_000]), np.array([10_000, 90_000]))
    everything = (0, 10**12)
    cases: list[tuple[Edit, list[int]]] = [
        (ScaleDevice(kernels, np.array([0.0, 0.9, 0.5])), [0, 2, 1]),
        (SetDevice(kernels, length - np.array([3, 1, 2])), [0, 2, 1]),
        (DropWaits(kernels), [1, 2, 0]),
        (MoveToStream(kernels), [1, 2, 0]),
        (MergeLaunches(kernels, np.zeros(3, np.int64), np.array([1]), host), [1, 2, 0]),
    ]
    for edit, order in cases:
        spots = worst_spots(trace, Change.exactly(edit), everything)
        assert [s.start for s in spots] == [int(trace.events.start[kernels[i]]) for i in order], edit
    assert worst_spots(trace, Change.exactly(ScaleHost(host)), everything)[0].start == 50_000
    keep = ShortenHost(host.start, host.end, np.array([0, 39_000]))
    assert worst_spots(trace, Change.exactly(keep), everything)[0].start == 0
    assert [s.start for s in worst_spots(trace, Change.exactly(ScaleHost(host)), (0, 20_000))] == [0]
    assert worst_spots(trace, Change.exactly(PaceWorkers(0.5)), everything) == ()  # what workers do is in no trace
    assert worst_spots(trace, Change((), (), ()), everything) == ()


@pytest.mark.parametrize(
    "name", ["v100_resnet50_workers0", "a100_resnet50_ddp_rank0of2", "mi300x_resnet_checkpoint_rank0of8"]
)
def test_real_traces_in_every_era_of_the_clock(tmp_path: Path, name: str) -> None:
    """Epoch, decimal and relative times: our steps begin with a kernel of the original, to the microsecond."""
    target = tmp_path / "marked.json.gz"
    done = annotate(real_trace(f"{name}.pt.trace.json.gz"), target)
    data = load(target)
    steps = [e["ts"] for e in ours(data) if e["ph"] == "X" and e["tid"] == 1]
    kinds = ("kernel", "Kernel", "gpu_memcpy", "Memcpy", "gpu_memset", "Memset")
    device = np.array(sorted(e["ts"] for e in data["traceEvents"] if e.get("cat") in kinds), np.float64)
    nearest = [float(np.abs(device - ts).min()) for ts in steps]
    assert len(steps) == done.steps > 0
    assert max(nearest) <= 1.0
