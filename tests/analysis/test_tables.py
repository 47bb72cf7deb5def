"""Tables by kernel, operator and module: per step, with what it takes to judge a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.summary.tables import kernel_rows, module_rows, op_rows
from mfu_doctor.result.stated_mfu import peak_share
from tests.analysis.test_mfu import steps_of
from tests.analysis.test_waterfall import gemm
from tests.reference import from_json
from tests.timeline import Timeline


def tabled(draw: Callable[[Timeline], None]) -> Run:
    """Three drawn steps of 10 ms."""
    return Run(steps_of(0.01, draw).trace())


def test_kernel_rows_carry_what_it_takes_to_judge_a_kernel() -> None:
    """Per step: time, launches, FLOPs, traffic and the share of its own peak."""

    def draw(t: Timeline) -> None:
        gemm(t, 4096, 4096, 4096, 200)
        gemm(t, 4096, 4096, 4096, 200)

    (row,) = kernel_rows(tabled(draw))
    flops = 2 * 2 * 4096**3
    assert (row.kind, row.dtype, row.count, row.op) == ("matmul", "bf16", 2.0, "aten::mm")
    assert row.seconds == pytest.approx(400e-6)
    assert row.share == pytest.approx(0.04, rel=1e-3)
    assert (row.flops, row.bytes) == (flops, 2 * 3 * 4096**2 * 2)
    assert row.peak_share == pytest.approx(flops / 400e-6 / 989.4e12)
    assert row.intensity == pytest.approx(4096 / 3)


def test_a_matmul_above_its_peak_has_no_share_of_it() -> None:
    """Its time, its FLOPs or the peak is wrong, and "352 % of peak" would be told as a fact."""
    (row,) = kernel_rows(tabled(lambda t: gemm(t, 4096, 4096, 4096, 20)))
    assert row.achieved_flops_s == pytest.approx(2 * 4096**3 / 20e-6)
    assert row.peak_share is None


@pytest.mark.parametrize(
    ("kind", "achieved", "share"),
    [("matmul", 5.0, 0.5), ("matmul", 20.0, None), ("convolution", 20.0, 2.0), ("matmul", None, None)],
)
def test_only_convolutions_exceed_a_peak(kind: str, achieved: float | None, share: float | None) -> None:
    """Their FLOPs are those of the direct algorithm; Winograd needs fewer."""
    assert peak_share(kind, achieved, 10.0) == share


def test_an_operator_in_two_stretches_is_one_call() -> None:
    """On a CPU a child operator splits its parent's own time in two."""
    events: list[dict[str, Any]] = []
    for name, ts, dur in (("aten::outer", 0, 100), ("aten::inner", 40, 20)):
        events.append({"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur})
    rows = {row.name: row for row in kernel_rows(Run(from_json(events)))}
    assert rows["aten::outer"].count == 1.0
    assert rows["aten::outer"].seconds == pytest.approx(80e-6)


def test_op_rows_separate_host_and_device_time() -> None:
    """10 us of host time launch 200 us of device time."""
    (row,) = op_rows(tabled(lambda t: gemm(t, 4096, 4096, 4096, 200)))
    assert row.name == "aten::mm"
    assert row.host_s == pytest.approx(10e-6, rel=0.01)
    assert row.device_s == pytest.approx(200e-6)
    assert (row.count, row.flops) == (1.0, 2 * 4096**3)


def test_no_operator_takes_longer_than_a_trace_without_steps() -> None:
    """30 s of a first allocation are no part of the 10 ms that are judged: "30.0 s" was told of a trace of 12.9 s."""
    t = Timeline()
    with t.span("aten::empty", "cpu_op"):
        t.python(30_000_000)
    with t.span("aten::copy_", "cpu_op"):
        t.python(500_000)
        t.op("aten::op", kernel=300)
        t.python(600)
    for i in range(30):
        t.op(f"aten::op{i}", kernel=300, host=320)
    run = Run(t.trace())
    assert run.steps.source == "whole trace"
    rows = {row.name: row for row in op_rows(run)}
    assert "aten::empty" not in rows
    assert rows["aten::copy_"].host_s == pytest.approx(600e-6, rel=0.02)
    assert rows["aten::op9"].host_s == pytest.approx(320e-6, rel=0.02)
    assert sum(row.host_s for row in rows.values()) <= run.steps.mean_ns / 1e9


def test_module_rows_come_from_stacks_and_include_submodules() -> None:
    """`nn.Module: Block_0` encloses what its children launch; without stacks there are none."""

    def draw(t: Timeline) -> None:
        with t.span("nn.Module: Block_0", "python_function"):
            gemm(t, 64, 64, 64, 100)
            with t.span("nn.Module: Linear_0", "python_function"):
                gemm(t, 64, 64, 64, 100)

    rows = {row.name: row for row in module_rows(tabled(draw))}
    assert rows["Block_0"].device_s == pytest.approx(200e-6)
    assert rows["Linear_0"].device_s == pytest.approx(100e-6)
    assert rows["Linear_0"].flops == 2 * 64**3
    assert module_rows(tabled(lambda t: gemm(t, 64, 64, 64, 100))) == ()
