"""The waterfall sums to the step to the nanosecond, whatever the timeline; and each loss lands in its own bar."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mfu_doctor.analysis.run import Options, Run
from mfu_doctor.analysis.utilization.exclusive import exclusive_time, whole_nanoseconds
from mfu_doctor.analysis.utilization.matmul_losses import tile_efficiency, wave_efficiency
from mfu_doctor.analysis.views.activity import COMMUNICATION, COMPUTE, COPY, Activity
from mfu_doctor.facts import DeviceSamples, Facts, MeasuredPeak
from tests.analysis.test_mfu import BF16_GEMM, attention, cpu_run, mixed, product, shapeless, steps_of
from tests.reference import from_json
from tests.timeline import Timeline
from tests.traces import real_run

Event = tuple[int, int, int]  # start, length, kind
EVENTS = st.lists(st.tuples(st.integers(-50, 120), st.integers(0, 60), st.integers(0, 2)), max_size=25)


def activity_of(events: list[Event]) -> Activity:
    """Device operations with these starts, lengths and kinds."""
    ordered = sorted(events)
    start = np.array([e[0] for e in ordered], np.int64)
    length = np.array([e[1] for e in ordered], np.int64)
    kind = np.array([e[2] for e in ordered], np.uint8)
    rows = np.arange(len(ordered), dtype=np.int64)
    return Activity(True, 0, rows, start, start + length, kind, np.zeros(len(ordered), np.int16))


def exact_shares(activity: Activity, lo: int, hi: int) -> list[Fraction]:
    """The definition, nanosecond by nanosecond, in rational arithmetic."""
    tau = [Fraction(0)] * activity.count
    for now in range(lo, hi):
        running = [i for i in range(activity.count) if activity.start[i] <= now < activity.end[i]]
        best = min((int(activity.kind[i]) for i in running), default=None)
        sharing = [i for i in running if activity.kind[i] == best]
        for i in sharing:
            tau[i] += Fraction(1, len(sharing))
    return tau


@given(EVENTS)
@settings(max_examples=150, deadline=None)
def test_exclusive_time_is_the_definition(events: list[Event]) -> None:
    """Overlaps, nesting, zero lengths, negative times, events across the edges: every nanosecond has one owner."""
    activity = activity_of(events)
    tau, totals = exclusive_time(activity, 0, 100)
    expected = exact_shares(activity, 0, 100)
    assert tau.tolist() == pytest.approx([float(t) for t in expected], abs=1e-9)
    by_kind = {k: sum(t for t, of in zip(expected, activity.kind, strict=True) if of == k) for k in range(3)}
    assert {k: totals.get(k, 0) for k in range(3)} == by_kind


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=30))
def test_rounding_keeps_the_sum(parts: list[float]) -> None:
    """Bars are integers and still sum to the whole."""
    total = round(sum(parts))
    assert sum(whole_nanoseconds(parts, total)) == total


def test_two_equal_kernels_at_once_share_the_interval() -> None:
    """Each half; together the interval."""
    tau, _ = exclusive_time(activity_of([(0, 50, COMPUTE), (0, 50, COMPUTE)]), 0, 100)
    assert tau.tolist() == [25.0, 25.0]


def test_hidden_communication_and_copies_cost_nothing() -> None:
    """A collective under compute and a copy under either are free."""
    events = [(0, 50, COMPUTE), (10, 30, COMMUNICATION), (5, 20, COPY)]
    tau, totals = exclusive_time(activity_of(events), 0, 100)
    assert sorted(tau.tolist()) == [0.0, 0.0, 50.0]
    assert (totals.get(COMMUNICATION), totals.get(COPY)) == (0, 0)


NAMES = (
    BF16_GEMM,
    "ncclDevKernel_AllReduce_Sum_bf16_RING_LL",
    "void at::native::vectorized_elementwise_kernel<4>",
    "k",
)
DRAWN = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-30, 90), st.integers(0, 40), st.integers(7, 9)), min_size=1, max_size=20
)


@given(DRAWN)
@settings(max_examples=60, deadline=None)
def test_bars_of_a_random_timeline_sum_to_the_step(drawn: list[tuple[int, int, int, int]]) -> None:
    """Through the whole pipeline: the bars, the split and the step are the same nanoseconds."""
    events: list[dict[str, Any]] = []
    for i, (name, start, length, stream) in enumerate(drawn, 1):
        ids = {"External id": i, "correlation": i + 1000}
        shapes = {"Input Dims": [[64, 64], [64, 64]], "Input type": ["c10::BFloat16"] * 2}
        op = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": i, "ts": -100 + i, "dur": 1}
        events.append(op | {"args": {"External id": i} | shapes})
        at = {"ph": "X", "cat": "kernel", "pid": 0, "tid": stream, "ts": start, "dur": length + 1}
        events.append(at | {"name": NAMES[name], "args": ids | {"device": 0, "stream": stream}})
    props = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "computeMajor": 9, "computeMinor": 0, "numSms": 132}
    run = Run(from_json({"deviceProperties": [props], "traceEvents": events}))
    fall = run.waterfall
    assert sum(fall.nanoseconds) == fall.whole_ns == run.breakdown.whole.total
    by_group = dict.fromkeys((b.group for b in fall.bars), 0)
    for bar, ns in zip(fall.bars, fall.nanoseconds, strict=True):
        by_group[bar.group] += ns
    assert by_group.get("communication", 0) == run.breakdown.whole.communication
    assert by_group.get("idle", 0) == run.breakdown.whole.idle


def bars(run: Run) -> dict[str, float]:
    """Seconds by bar."""
    return {bar.name: bar.seconds for bar in run.waterfall.bars}


def test_the_first_bar_is_the_mfu_and_a_slower_format_is_the_second() -> None:
    """A mixed run on an H100: 26.69 % achieved, 23.31 % lost to fp32, half the step idle."""
    run = Run(steps_of(4, mixed).trace())
    found = bars(run)
    assert found["ideal: model FLOPs / peak FLOP/s"] / 4 == pytest.approx(float(run.mfu.report.value or 0), abs=1e-9)
    assert found["ideal: model FLOPs / peak FLOP/s"] / 4 == pytest.approx(0.2669, abs=5e-5)
    assert found["dtype with a lower peak"] / 4 == pytest.approx(0.2331, abs=5e-5)
    assert sum(v for k, v in found.items() if k.startswith("idle")) == pytest.approx(2.0, abs=1e-3)


def test_causal_attention_achieves_its_unmasked_pairs() -> None:
    """The bar is the causal MFU; flash attention's second look at the scores is recomputation."""
    run = Run(steps_of(4, lambda t: attention(t, causal=True)).trace())
    found = bars(run)
    assert found["ideal: model FLOPs / peak FLOP/s"] / 4 == pytest.approx(float(run.mfu.report.causal or 0), rel=1e-4)
    assert found["recomputed FLOPs / peak FLOP/s"] == pytest.approx(
        found["ideal: model FLOPs / peak FLOP/s"] / 4, rel=1e-4
    )
    assert "unmasked" in str(run.waterfall.note)


def test_a_kernel_faster_than_its_peak_is_shown_and_not_clamped() -> None:
    """A Winograd convolution in a step that idles besides: the bars still sum, with a negative one."""
    run = Run(steps_of(3, lambda t: product(t, 1_978_800_000_000_000, BF16_GEMM, dtype="c10::BFloat16")).trace())
    assert bars(run)["correction: faster than the peak"] == pytest.approx(-1.0, abs=1e-6)
    assert sum(run.waterfall.nanoseconds) == run.waterfall.whole_ns


def test_a_peak_that_the_step_exceeds_explains_nothing() -> None:
    """MFU would be 200 %: the peak, the FLOPs or the time is wrong, so no bar is modelled with them."""
    run = Run(steps_of(1, lambda t: product(t, 1_978_800_000_000_000, BF16_GEMM, dtype="c10::BFloat16")).trace())
    assert bars(run)["matmuls (peak FLOP/s unknown)"] == pytest.approx(1.0, abs=1e-6)
    assert sum(run.waterfall.nanoseconds) == run.waterfall.whole_ns


def test_a_shape_bound_by_memory_is_no_fault_of_the_kernel() -> None:
    """A matrix-vector product moves its matrix once: 2 GB at 3.35 TB/s."""

    def draw(t: Timeline) -> None:
        types = ["c10::BFloat16"] * 2
        t.op("aten::mv", kernel=1000, kernel_name="gemv", dims=[[100_000, 10_000], [10_000]], types=types)

    found = bars(Run(steps_of(0.01, draw).trace()))
    assert found["memory-bound matmuls"] == pytest.approx(2e9 / 3.35e12, rel=0.01)


def gemm(t: Timeline, m: int, k: int, n: int, us: int) -> None:
    """A bf16 product on 128 x 128 persistent tiles."""
    t.op("aten::mm", kernel=us, kernel_name=BF16_GEMM, dims=[[m, k], [k, n]], types=["c10::BFloat16"] * 2)


def test_tiles_and_waves_of_a_real_gemm() -> None:
    """8944 x 1024 x 1024 on 132 multiprocessors: 560 tiles in 5 waves fill 84.8 % of them."""
    filled, blocks = tile_efficiency((1, 8944, 1024, 1024), (128, 128))
    assert blocks == 560
    assert filled == pytest.approx(0.998, abs=5e-4)
    assert wave_efficiency(560, 132, one_each=True) == pytest.approx(0.848, abs=5e-4)
    assert wave_efficiency(1540, 132, one_each=True) == pytest.approx(0.972, abs=5e-4)
    run = Run(steps_of(0.001, lambda t: gemm(t, 8944, 1024, 1024, 100)).trace())
    at_peak = 2 * 8944 * 1024 * 1024 / 989.4e12
    assert bars(run)["wave quantization"] == pytest.approx(at_peak / filled * (1 / 0.8485 - 1), rel=0.01)


def test_a_matrix_of_no_size_wastes_nothing() -> None:
    assert tile_efficiency((1, 0, 64, 64), (128, 64)) == (1.0, 0)


def test_small_tiles_are_only_blamed_for_an_underfilled_device() -> None:
    """How many small blocks share a multiprocessor is not in a trace."""
    assert wave_efficiency(133, 132, one_each=False) == 1.0
    assert wave_efficiency(33, 132, one_each=False) == 0.25
    assert wave_efficiency(100, None, one_each=True) == 1.0


def test_a_lower_clock_has_its_own_bar() -> None:
    """Mean of the busy samples against the clock at which the peak holds; idle samples do not count."""
    trace = steps_of(2, lambda t: product(t, 494_700_000_000_000, BF16_GEMM, dtype="c10::BFloat16")).trace()
    samples = DeviceSamples(device="0", time_ns=(1, 2, 3), sm_mhz=(1464.0, 1464.0, 300.0), util_gpu=(90.0, 80.0, 0.0))
    run = Run(replace(trace, facts=Facts(samples=(samples,))))
    assert bars(run)["clock below the boost clock"] == pytest.approx(0.5 * (1830 / 1464 - 1), rel=0.02)
    assert "clock below the boost clock" not in bars(Run(trace))


def other_work(t: Timeline) -> None:
    """One kernel of each other kind, 100 us each, and a tiny one."""
    for name in ("multi_tensor_apply_kernel", "batched_transpose_16x32_half", "splitKreduce_kernel", "k"):
        t.op("aten::comment", kernel=100, kernel_name=name)
    elementwise = "void at::native::vectorized_elementwise_kernel<4>"
    t.op("aten::gelu", kernel=100, kernel_name=elementwise, dims=[[1000, 16_750]], types=["c10::BFloat16"])
    t.op("aten::gelu", kernel=2, kernel_name=elementwise)


def test_other_kernels_by_kind_with_the_floor_of_their_traffic() -> None:
    """67 MB at 3.35 TB/s are 20 of an activation's 100 us; the rest is what fusing could give back."""
    found = bars(Run(steps_of(0.002, other_work).trace()))
    for name in ("optimizer", "layout conversion", "auxiliary kernels of matmuls", "other kernels"):
        assert found[name] == pytest.approx(100e-6)
    assert found["memory-bound: minimum time"] == pytest.approx(20e-6, rel=1e-3)
    assert found["memory-bound: above the minimum"] == pytest.approx(80e-6, rel=1e-3)
    assert found["kernels under 5 us"] == pytest.approx(2e-6)


def test_what_the_profiler_added_is_taken_out_of_host_idle() -> None:
    """A step of 4 s recorded, of 3 s without the profiler: one of the two idle seconds is the profiler's."""
    trace = steps_of(4, mixed).trace()
    run = Run(replace(trace, facts=Facts(timed_steps_s=(3.0,))))
    found, before = bars(run), bars(Run(trace))
    assert found["idle: profiler"] == pytest.approx(1.0)
    idle = [sum(v for k, v in b.items() if k in ("idle: launch", "idle: python")) for b in (before, found)]
    assert idle[0] - idle[1] == pytest.approx(1.0)
    assert sum(run.waterfall.nanoseconds) == run.waterfall.whole_ns
    assert "with the profiler" in str(run.waterfall.note)


def test_unknown_flops_are_a_bar_and_a_note() -> None:
    """Without shapes there is no achieved bar at all, rather than one of zero."""
    run = Run(steps_of(4, shapeless).trace())
    found = bars(run)
    assert found["matmuls with unknown FLOPs"] == pytest.approx(1.0)
    assert "ideal: model FLOPs / peak FLOP/s" not in found
    assert "100 % of the matmul time" in str(run.waterfall.note)
    assert run.least_times is None


def test_given_flops_split_matmuls_whose_shapes_are_unknown() -> None:
    """A quarter second of work at peak in a second of kernels: the first bar is the MFU again."""
    run = Run(steps_of(4, shapeless).trace(), Options(model_flops=989.4e12 / 4))
    found = bars(run)
    assert found["ideal: model FLOPs / peak FLOP/s"] / 4 == pytest.approx(float(run.mfu.report.value or 0))
    assert found["other matmul inefficiency"] == pytest.approx(0.75)
    assert "matmuls with unknown FLOPs" not in found


def test_recorded_stacks_make_host_idle_an_upper_bound() -> None:
    """Stacks slow the host three times over; the note says so."""
    run = real_run("h100_timesformer_inference")
    assert "upper bound" in str(run.waterfall.note)


def test_the_roofline_step_is_each_kernel_at_its_own_limit() -> None:
    """Two seconds of kernels at their own peaks: nothing to gain there, the idle half goes."""
    least = Run(steps_of(4, mixed).trace()).least_times
    assert least is not None
    assert least.kernels == pytest.approx(2e9, rel=1e-6)
    assert least.products <= least.kernels


def test_on_a_cpu_the_operators_are_the_kernels() -> None:
    """Half the step multiplies, half is Python; the peak is the measured one."""
    peaks = (MeasuredPeak(dtype="float32", flops=2e11, threads=2, how="GEMM"),)
    found = bars(cpu_run(Facts(measured_peaks=peaks)))
    assert found == pytest.approx(
        {"ideal: model FLOPs / peak FLOP/s": 0.25, "other matmul inefficiency": 0.25, "idle: python": 0.5}
    )


@pytest.mark.parametrize(
    "name",
    [
        "a100_alexnet_sync_events",
        "a100_dlrm_rank3of8",
        "a100_resnet50_ddp_rank0of2",
        "cpu_gloo_rank34of300",
        "h100_bert_small_inference",
        "h100_timesformer_inference",
        "mi250_minitoy_train",
        "mi300x_inductor_triton",
        "mi300x_resnet_checkpoint_rank0of8",
        "two_ranks/rank0",
        "v100_resnet50_workers0",
        "v100_resnet50_workers4",
        "vllm_decode_graph",
    ],
)
def test_bars_of_real_traces_sum_to_the_step(name: str) -> None:
    """Every nanosecond of every real trace has one owner, and the first bar is the causal MFU."""
    run = real_run(name)
    fall = run.waterfall
    assert sum(fall.nanoseconds) == fall.whole_ns == run.breakdown.whole.total
    first = fall.bars[0]
    if run.mfu.report.causal is not None:
        assert first.group == "achieved"
        assert first.seconds * fall.count / fall.whole_ns * 1e9 == pytest.approx(
            run.mfu.report.causal, rel=1e-3, abs=1 / fall.whole_ns
        )


def test_a_checkpointed_run_on_mi300x() -> None:
    """MFU 0.43 %, HFU 0.57 %, 63 % exposed communication."""
    run = real_run("mi300x_resnet_checkpoint_rank0of8")
    found = {b.name: b.seconds * run.waterfall.count / run.waterfall.whole_ns * 1e9 for b in run.waterfall.bars}
    assert found["ideal: model FLOPs / peak FLOP/s"] == pytest.approx(0.0043, abs=1e-4)
    assert found["recomputed FLOPs / peak FLOP/s"] == pytest.approx(0.0014, abs=1e-4)
    assert found["exposed communication"] == pytest.approx(0.628, abs=0.01)
