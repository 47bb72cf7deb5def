"""FLOPs of whole traces: exact on real ones and on drawn ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.counted_ops import BACKWARD, FORWARD, PHASES, RECOMPUTE
from mfu_doctor.analysis.utilization.flops import EXECUTED, MODEL
from tests.reference import from_json
from tests.steps import dtypes_of, flops_of
from tests.timeline import Timeline
from tests.traces import real_run

FLOATS = {"types": ["float", "float"]}
GEMM = "ampere_sgemm_128x128_tn"


def convolutions(run: Run, step: int) -> Counter[str]:
    """Counted convolutions of one step by phase."""
    count = run.flops
    inside = [i for i, window in enumerate(count.window.tolist()) if window == step]
    named = [i for i in inside if "conv" in run.trace.name_of(int(count.ops.row[i]))]
    return Counter(PHASES[int(count.ops.phase[i])] for i in named)


@pytest.mark.parametrize("workers", [0, 4])
def test_resnet50_on_v100_is_exact_in_every_window(workers: int) -> None:
    """torch 1.8: no printed arguments, so strides come from gradients; the stem has no input gradient."""
    run = real_run(f"v100_resnet50_workers{workers}")
    assert run.steps.count == 5
    for step in range(5):
        assert flops_of(run.flops, step) == flops_of(run.flops, step, EXECUTED) == 777_570_484_224
        assert flops_of(run.flops, step, MODEL, FORWARD) == 261_707_792_384
        assert dtypes_of(run.flops, step) == {"fp32": 777_570_484_224}
        assert convolutions(run, step) == {"forward": 53, "backward": 53 + 52}
    assert run.flops.coverage == 1.0


def test_checkpointed_resnet18_on_mi300x_counts_recomputation_apart() -> None:
    """57 of 60 forward convolutions run again in the backward pass: executed, but no model work."""
    run = real_run("mi300x_resnet_checkpoint_rank0of8")
    for step in range(run.steps.count):
        assert flops_of(run.flops, step, EXECUTED) == 140_395_069_440
        assert flops_of(run.flops, step, EXECUTED, RECOMPUTE) == 33_910_947_840
        assert flops_of(run.flops, step, MODEL) == 140_395_069_440 - 33_910_947_840
        assert convolutions(run, step) == {"forward": 20, "recompute": 19, "backward": 20}
    phases = Counter(
        run.flops.ops.phase[i] for i, r in enumerate(run.flops.ops.row) if "miopen" in run.trace.name_of(r)
    )
    assert (phases[FORWARD], phases[RECOMPUTE]) == (60, 57)


def test_compiled_and_flash_trace_counts_each_product_once() -> None:
    """`_scaled_dot_product_flash_attention` encloses `_flash_attention_forward`: one of them counts."""
    run = real_run("mi300x_inductor_triton")
    assert flops_of(run.flops, 0) == 5_497_558_138_880
    assert run.flops.coverage == 1.0


def test_dlrm_on_a100_has_tf32_and_fp32_apart_and_the_same_every_step() -> None:
    """The format is decided per kernel; five windows of the same work give the same count."""
    run = real_run("a100_dlrm_rank3of8")
    counts = [dtypes_of(run.flops, step) for step in range(run.steps.count)]
    assert counts == [{"fp32": 14_979_307_520, "tf32": 329_721_708_544}] * 5


def test_a_trace_without_shapes_counts_nothing_and_says_what_to_do() -> None:
    """Coverage is 0, not a guess; the reason names both ways out."""
    count = real_run("a100_resnet50_ddp_rank0of2").flops
    assert count.coverage == 0.0
    assert "record_shapes=True" in str(count.reason)
    assert "--model-flops" in str(count.reason)


def test_graph_launches_leave_kernels_unknown_and_listed() -> None:
    """A CUDA graph's kernels have no operators: they are named with their time, and coverage is small."""
    count = real_run("vllm_decode_graph").flops
    assert count.coverage == pytest.approx(0.031, abs=0.001)
    assert count.unknown[0].name.startswith("_matmul_ogs")
    assert count.unknown[0].matmul_like


def drawn(draw: Callable[[Timeline], None], steps: int = 3) -> Run:
    """A run of identical drawn steps."""
    t = Timeline()
    for _ in range(steps):
        with t.step():
            draw(t)
            t.sync()
    return Run(t.trace())


def mm(t: Timeline, m: int = 8, k: int = 16, n: int = 32, **more: Any) -> None:
    """A matrix product of 2 m k n FLOP with one kernel."""
    t.op("aten::mm", kernel=100, dims=[[m, k], [k, n]], kernel_name=GEMM, **(FLOATS | more))


def test_helpers_bear_no_flops() -> None:
    """A split-K product is one gemm and one reduction: the gemm did the work."""

    def draw(t: Timeline) -> None:
        with t.span("aten::mm", "cpu_op", external_id=t._id(), dims=[[8, 16], [16, 32]], **FLOATS):
            for kernel in (GEMM, "void splitKreduce_kernel<float>"):
                ids: dict[str, Any] = {"correlation": t._id()}
                t.call("cudaLaunchKernel", 4, **ids)
                t.device(kernel, 50, grid=[1, 1, 1], **ids)

    run = drawn(draw)
    per_entry = run.flops.per_entry()
    names = [run.trace.name_of(int(r)) for r in run.activity.row]
    assert dict(zip(names, per_entry.tolist(), strict=True)) == {GEMM: 8192.0, names[1]: 0.0}


def test_nested_operators_count_once() -> None:
    """linear > addmm, both with shapes: the leaf counts."""

    def draw(t: Timeline) -> None:
        with t.span("aten::linear", "cpu_op", external_id=t._id(), dims=[[8, 16], [32, 16]], **FLOATS):
            t.op("aten::addmm", kernel=100, dims=[[32], [8, 16], [16, 32]], types=["float"] * 3, kernel_name=GEMM)

    run = drawn(draw)
    assert [flops_of(run.flops, i) for i in range(run.steps.count)] == [8192] * run.steps.count


def test_gradient_accumulation_sums_its_micro_batches() -> None:
    """Four micro-batches are four times the FLOPs of one optimizer step."""

    def accumulate(t: Timeline) -> None:
        for _ in range(4):
            mm(t)

    one, four = drawn(mm), drawn(accumulate)
    assert flops_of(four.flops, 0) == 4 * flops_of(one.flops, 0)


def test_a_kernel_across_the_edge_of_a_window_is_split_by_overlap() -> None:
    """FLOPs x overlap / duration: nothing is lost, nothing counted twice."""
    t = Timeline()
    for _ in range(3):
        with t.step():
            mm(t)
    events = t.json()["traceEvents"]
    kernels = [e for e in events if e["cat"] == "kernel"]
    kernels[0]["dur"] += 25  # now a quarter of it runs while the second step's first kernel has begun
    kernels[1]["ts"] = kernels[0]["ts"] + 100
    run = Run(from_json(t.json() | {"traceEvents": events}))
    assert flops_of(run.flops, 0) == round(8192 * 100 / 125)


def test_two_kernels_at_once_count_in_full() -> None:
    """Concurrency shares time, not work."""

    def draw(t: Timeline) -> None:
        mm(t, stream=7)
        mm(t, stream=8)

    run = drawn(draw)
    assert flops_of(run.flops, 0) == 2 * 8192


def test_recomputation_carries_a_sequence_number_inside_backward() -> None:
    """Checkpointing runs forward operators inside the backward pass, and only those record for autograd."""

    def draw(t: Timeline) -> None:
        mm(t, sequence=1)
        name = "autograd::engine::evaluate_function: CheckpointFunctionBackward"
        with t.span(name, "cpu_op", sequence=1), t.span("CheckpointFunctionBackward", "cpu_op", sequence=1):
            mm(t, sequence=9)
            mm(t)

    run = drawn(draw)
    phases = [flops_of(run.flops, 0, EXECUTED, phase) for phase in (FORWARD, BACKWARD, RECOMPUTE)]
    assert phases == [8192, 8192, 8192]
    assert flops_of(run.flops, 0) == 2 * 8192


@pytest.mark.parametrize(("again_us", "computed"), [(190, 1), (40, 0)])
def test_on_a_cpu_recomputation_that_stops_inside_an_operator_has_not_computed_it(again_us: int, computed: int) -> None:
    """What the same arguments took in forward tells; on a GPU there would be no kernel."""
    t = Timeline(device=None)
    product: dict[str, Any] = {"dims": [[8, 16], [16, 32]], **FLOATS}
    with t.step():
        t.op("aten::mm", host=200, **product, sequence=1)
        with t.span("autograd::engine::evaluate_function: AddmmBackward0", "cpu_op", sequence=1):
            t.op("aten::mm", host=again_us, **product, sequence=9)
            t.op("aten::mm", host=30, **product)
    flops = Run(t.trace()).flops
    phases = [flops_of(flops, 0, EXECUTED, phase) for phase in (FORWARD, BACKWARD, RECOMPUTE)]
    assert phases == [8192, 8192, computed * 8192]
    assert flops.coverage == 1.0


def test_a_custom_operator_without_formula_is_unknown_and_listed() -> None:
    """Its multiplications are in no total, and its name and time say so."""

    def draw(t: Timeline) -> None:
        mm(t)
        t.op(
            "mylib::secret_gemm", kernel=300, kernel_name="cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn"
        )
        t.op("mylib::mystery", kernel=50, kernel_name="k")

    count = drawn(draw).flops
    assert count.coverage == pytest.approx(0.25)
    listed = {u.name: (u.matmul_like, u.count) for u in count.unknown}
    assert listed == {"mylib::secret_gemm": (True, 2), "mylib::mystery": (False, 2)}


def test_captured_secrets_are_in_no_name() -> None:
    """Only operator and kernel names leave the analysis; whatever else a trace carried cannot be among them."""
    t = Timeline()
    with t.step():
        mm(t)
    trace = t.json() | {"metadata": {"env": {"HF_TOKEN": "hf_abcdefghijklmnop"}}}
    run = Run(from_json(trace))
    assert "hf_abcdefghijklmnop" not in repr((run.flops, run.mfu, run.waterfall, run.peaks))


def test_an_operator_without_a_kernel_did_not_run() -> None:
    """An aborted recomputation leaves its operator in the trace and launches nothing."""

    def draw(t: Timeline) -> None:
        mm(t)
        t.op("aten::mm", dims=[[8, 16], [16, 32]], types=["float", "float"])

    assert flops_of(drawn(draw).flops, 0) == 8192
