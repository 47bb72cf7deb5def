"""What each generation of torch, CUPTI and roctracer writes is read for what it means: the rows of dialects/GENERATIONS.md."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
import pytest

from mfu_doctor.analysis.evidence.graphs import is_graphed
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.syncs import find_syncs
from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.reading import read_trace
from mfu_doctor.trace import Category, Trace
from tests.timeline import STREAM, Timeline
from tests.traces import ROOT

GENERATIONS = ROOT / "mfu_doctor" / "reading" / "dialects" / "GENERATIONS.md"
EPOCH_US = 1_700_000_000_000_000
STEPS, KERNELS = 6, 5


def training(begin: int = 0, *, sync: str = "cudaStreamSynchronize", launch: str = "cudaLaunchKernel") -> Timeline:
    """Steps of five kernels of 100 us and a wait for them."""
    drawn = Timeline()
    drawn.now = begin
    for _ in range(STEPS):
        with drawn.step():
            drawn.python(200)
            for _ in range(KERNELS):
                drawn.op("aten::mm", kernel=100, host=20, launch=launch)
            drawn.sync(sync)
    return drawn


def read(drawn: Timeline | dict[str, Any]) -> Trace:
    document = drawn.json() if isinstance(drawn, Timeline) else drawn
    return read_trace(io.BytesIO(json.dumps(document).encode()))


def events(drawn: Timeline, category: str) -> list[dict[str, Any]]:
    return [event for event in drawn.events if event["cat"] == category]


def split(run: Run) -> tuple[list[int], dict[str, int], float | None]:
    """Everything that must not depend on how a file is written."""
    return run.steps.duration.tolist(), run.breakdown.whole.causes, run.replay.error


def test_the_unit_of_display_is_not_the_unit_of_times() -> None:
    drawn = training()
    shown_in_ns = read(drawn.json() | {"displayTimeUnit": "ns"})
    assert split(Run(shown_in_ns)) == split(Run(read(drawn)))


def test_an_operation_without_a_time_is_left_out_and_moves_no_step() -> None:
    """CUPTI writes 0 for both times where it could not take them. At the first real time, such kernels opened the steps."""
    drawn = training(EPOCH_US)
    for kernel in events(drawn, "kernel")[2 * KERNELS :: KERNELS]:  # the first of each step from the third on
        kernel.update(ts=0, dur=0)
    trace = read(drawn)
    assert [(p.kind, p.count) for p in trace.problems if p.kind != "no-base-time"] == [("events-dropped", 4)]
    run = Run(trace)
    assert run.steps.count == STEPS - 1
    assert run.activity.count == STEPS * KERNELS - 4
    assert run.replay.error == pytest.approx(0, abs=0.01)
    assert diagnose_run(run).report.diagnosis("dropped-events") is not None


def test_a_host_event_without_a_start_is_kept_where_the_recording_begins() -> None:
    drawn = training(EPOCH_US)
    events(drawn, "cpu_op")[3].update(ts=0)
    trace = read(drawn)
    assert {p.kind: p.count for p in trace.problems if p.kind != "no-base-time"} == {"clamped-times": 1}
    assert len(trace.events) == len(drawn.events)


@pytest.mark.parametrize("early_us", [3, 30])
def test_a_kernel_that_seems_to_start_before_its_launch_changes_no_step(early_us: int) -> None:
    """The clocks of device and host differ by some microseconds: idle time moves from launching to waiting, and no more."""
    plain, early = training(), training()
    for kernel in events(early, "kernel"):
        kernel["ts"] -= early_us
    one, other = Run(read(plain)), Run(read(early))
    assert other.steps.duration.tolist() == one.steps.duration.tolist()
    assert other.breakdown.whole.idle == one.breakdown.whole.idle
    assert other.replay.error == pytest.approx(0, abs=0.01)


def test_kernels_that_overlap_on_their_stream_are_busy_once() -> None:
    """A dependent launch of Hopper begins while the kernel before it ends."""
    drawn = training()
    for kernel in events(drawn, "kernel")[1::2]:
        kernel["ts"] -= 4
        kernel["dur"] += 4
    run, plain = Run(read(drawn)), Run(read(training()))
    assert run.breakdown.whole.idle == pytest.approx(plain.breakdown.whole.idle, abs=STEPS * 4_000)


def test_kernels_shorter_than_a_microsecond_last_nothing_and_count() -> None:
    """Whole microseconds until torch 2.3: 7 % of the kernels of a V100 trace last 0."""
    drawn = training(EPOCH_US)
    for kernel in events(drawn, "kernel")[::KERNELS]:
        kernel["dur"] = 0
    run = Run(read(drawn))
    assert (run.steps.count, run.activity.count) == (STEPS - 1, STEPS * KERNELS)


def test_an_external_id_that_copies_the_correlation_names_no_operator() -> None:
    """Until 2024. The operators have other numbers, some of them the same by chance."""
    drawn = training()
    for event in events(drawn, "kernel") + events(drawn, "cuda_runtime"):
        event["args"]["External id"] = event["args"]["correlation"] = event["args"]["correlation"] + 3
    run = Run(read(drawn))
    owners = run.launches.op[run.launches.op >= 0]
    assert len(owners) == run.activity.count
    assert {run.trace.name_of(int(row)) for row in owners} == {"aten::mm"}
    assert len(np.unique(owners)) == run.activity.count


def test_a_kernel_without_a_correlation_is_its_operators_by_external_id() -> None:
    drawn = training()
    for kernel in events(drawn, "kernel"):
        del kernel["args"]["correlation"]
        kernel["args"]["External id"] += 1000
    for op in events(drawn, "cpu_op"):
        op["args"]["External id"] += 1000
    run = Run(read(drawn))
    assert (run.launches.call < 0).all()
    assert (run.launches.op >= 0).all()
    assert run.steps.count == STEPS - 1


def test_a_kernel_that_was_launched_before_the_recording_has_no_launch_and_counts() -> None:
    drawn = training()
    drawn.add("kernel", "earlier", 0, 40, pid=0, tid=STREAM, device=0, stream=STREAM, correlation=99_999)
    run = Run(read(drawn))
    assert run.launches.call[0] == -1
    assert run.activity.count == STEPS * KERNELS + 1
    assert run.steps.count == STEPS - 1


@pytest.mark.parametrize(
    ("launch", "cat", "more"),
    [
        ("cudaGraphLaunch", "cuda_runtime", {}),
        ("cudaGraphLaunch", "cuda_runtime", {"graph id": 7, "graph node id": 5}),
        ("cudaGraphLaunch_ptsz", "cuda_runtime", {"graph id": 0, "graph node id": 0}),
        ("cuGraphLaunch", "cuda_driver", {}),
        ("hipGraphLaunch", "cuda_runtime", {}),
    ],
)
def test_all_kernels_of_a_graph_have_its_one_launch(launch: str, cat: str, more: dict[str, Any]) -> None:
    drawn = Timeline()
    for step in range(STEPS):
        with drawn.step():
            drawn.python(50)
            drawn.call(launch, 10, cat=cat, correlation=step + 1)
            for stream in (STREAM, STREAM, 20):
                drawn.device("gemm", 100, stream=stream, correlation=step + 1, **more)
            drawn.sync(stream=STREAM)
    run = Run(read(drawn))
    assert run.steps.count == STEPS - 1
    calls, counts = np.unique(run.launches.call, return_counts=True)
    assert counts.tolist() == [3] * STEPS
    assert {run.trace.name_of(int(row)) for row in calls} == {launch}
    assert is_graphed(run)


@pytest.mark.parametrize(
    "sync", ["cudaStreamSynchronize", "cudaStreamSynchronize_ptsz", "cuStreamSynchronize", "hipStreamSynchronize"]
)
def test_every_variant_of_a_waiting_call_waits(sync: str) -> None:
    variants = {"cudaStreamSynchronize_ptsz": "cudaLaunchKernel_ptsz", "cuStreamSynchronize": "cuLaunchKernel"}
    run = Run(read(training(sync=sync, launch=variants.get(sync, "cudaLaunchKernel"))))
    assert split(run) == split(Run(read(training())))
    assert run.breakdown.whole.causes["sync"] > 0
    assert set(find_syncs(run, steady_of(run)).reason) == {sync.removesuffix("_ptsz")}


def waiting(tid: int, **args: Any) -> dict[str, Any]:
    """One event of a wait, as it stands in a file."""
    known = {"stream": STREAM, "correlation": 900, "device": 0, "context": 1} | args
    return {
        "ph": "X",
        "cat": "cuda_sync",
        "name": args["cuda_sync_kind"],
        "pid": 0,
        "tid": tid,
        "ts": 400,
        "dur": 90,
        "args": known,
    }


@pytest.mark.parametrize(
    ("event", "stream"),
    [
        (waiting(-1, cuda_sync_kind="Context Sync", stream=-1), "-1"),  # 2023
        (waiting(1, cuda_sync_kind="Context Sync", stream=-1), "-1"),  # since 2024 no thread id is negative
        (waiting(STREAM, cuda_sync_kind="Stream Sync", stream=4294967295), "4294967295"),
        (waiting(1_000_007, cuda_sync_kind="Stream Sync"), "7"),  # since 2026 in a row of its own
        (waiting(1, cuda_sync_kind="Stream Wait Event", wait_on_stream=20, wait_on_cuda_event_record_corr_id=-1), "7"),
        (waiting(1, cuda_sync_kind="Event Sync", stream=-1, wait_on_stream=20, wait_on_cuda_event_id=7777), "-1"),
    ],
)
def test_a_wait_is_no_work_and_is_of_the_stream_that_its_arguments_say(event: dict[str, Any], stream: str) -> None:
    drawn = training()
    drawn.events.append(event)
    trace = read(drawn)
    (row,) = trace.rows(Category.SYNC).tolist()
    assert trace.tracks[int(trace.events.track[row])].tid == stream
    assert split(Run(trace)) == split(Run(read(training())))


@pytest.mark.parametrize(
    "name", ["Activity Buffer Request", "Lazy Function Loading", "Command Buffer Full", "Resource"]
)
@pytest.mark.parametrize("pid", [-1, 1])
def test_the_profilers_own_time_is_no_work_of_the_program(name: str, pid: int) -> None:
    drawn = training()
    drawn.events.append({"ph": "X", "cat": "overhead", "name": name, "pid": pid, "tid": 0, "ts": 230, "dur": 15})
    trace = read(drawn)
    assert len(trace.rows(Category.OVERHEAD)) == 1
    assert split(Run(trace)) == split(Run(read(training())))


def test_frames_of_a_second_thread_in_the_process_of_a_device_are_of_the_host() -> None:
    """Python functions of other threads are written with process and thread 0: those of device 0."""
    drawn = training()
    drawn.add("python_function", "threading.py(1002): _bootstrap", 0, 4_000, pid=0, tid=0)
    trace = read(drawn)
    (row,) = trace.rows(Category.PYTHON).tolist()
    assert trace.tracks[int(trace.events.track[row])].device is None
    assert split(Run(trace)) == split(Run(read(training())))


def test_the_device_is_the_one_of_the_arguments() -> None:
    """ROCm writes the number of the whole machine, whatever the process sees."""
    drawn = training()
    for kernel in events(drawn, "kernel"):
        kernel.update(pid=2)
        kernel["args"]["device"] = 2
    run = Run(read(drawn))
    assert run.activity.device == 2
    assert split(run) == split(Run(read(training())))


def test_names_that_the_profiler_did_not_understand_are_kept() -> None:
    """torch 2.13 writes "unknown" for a name with a character that is not ASCII, and "INVALID" for a call it does not know."""
    drawn = training()
    for kernel in events(drawn, "kernel"):
        kernel["name"] = "unknown"
    drawn.add("cuda_runtime", "INVALID", 210, 5, correlation=9_000)
    assert split(Run(read(drawn))) == split(Run(read(training())))


def test_each_way_of_the_page_has_a_test_that_exists() -> None:
    rows = [line for line in GENERATIONS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    named = [re.findall(r"`(?:([\w/]+\.py)::)?(test_\w+)`", row) for row in rows]
    assert len(rows) >= 20
    assert all(named)
    for file, test in (pair for row in named for pair in row):
        source = (ROOT / "tests" / (file or "reading/test_generations.py")).read_text(encoding="utf-8")
        assert f"def {test}(" in source, f"{file}::{test}"
    own = re.findall(
        r"^def (test_\w+)", (ROOT / "tests/reading/test_generations.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    told = {test for row in named for file, test in row if not file}
    assert set(own) - told == {"test_each_way_of_the_page_has_a_test_that_exists"}
