"""Programs that need their digits, and programs that no compiler takes: gradients of gradients, factorizations, line searches."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.result.findings import FAILED, WITHHELD, Diagnosis
from tests.rules.judging import run_of
from tests.timeline import Timeline

BIG = [512, 512]
PEAKS = tuple(MeasuredPeak(dtype=d, flops=f, threads=2, how="") for d, f in (("fp32", 1e11), ("bf16", 4e11)))


def program(
    kind: str, *, second: bool = False, solves: bool = False, searches: bool = False, checkpoint: bool = False
) -> Run:
    """Four pointwise operators and a product forward, and their backward, in one dtype."""
    told: dict[str, Any] = {"dims": [BIG, BIG], "types": [kind, kind]}
    records: dict[str, Any] = {"sequence": 9} if second else {}
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            for number in range(4):
                drawn.op("aten::tanh", host=1_000, sequence=number, dims=[BIG], types=[kind])
            drawn.op("aten::mm", host=5_000, sequence=4, **told)
            if solves:
                drawn.op("aten::linalg_cholesky_ex", host=3_000, sequence=5, dims=[BIG], types=[kind])
            with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op", sequence=4):
                drawn.python(5)
                with drawn.span("MmBackward0", "cpu_op", sequence=4):
                    drawn.python(5)
                    if checkpoint:
                        drawn.op("aten::tanh", host=1_000, sequence=8, dims=[BIG], types=[kind])
                    drawn.op("aten::mm", host=5_000, **told, **records)
            with drawn.span("Optimizer.step#LBFGS.step", "user_annotation") if searches else nullcontext():
                drawn.op("aten::add_", host=50, dims=[BIG, BIG], types=[kind, kind])
    return run_of(drawn, measured_peaks=PEAKS)


def said(run: Run, rule: str) -> Diagnosis:
    return next(d for d in diagnose_run(run).report.diagnoses if d.rule == rule)


@pytest.mark.parametrize("why", ["solves", "second", "searches"])
def test_float64_that_is_needed_is_not_recommended_away(why: str) -> None:
    found = said(program("double", **{why: True}), "fp64-work")
    assert found.status == WITHHELD
    assert found.reason is not None
    assert "digits" in found.reason


@pytest.mark.parametrize("checkpoint", [False, True])
def test_float64_by_accident_is_found(checkpoint: bool) -> None:
    assert said(program("double", checkpoint=checkpoint), "fp64-work").status == FAILED


def test_a_backward_that_is_differentiated_is_not_compiled() -> None:
    found = said(program("float", second=True), "unfused-elementwise")
    assert found.status == WITHHELD
    assert found.reason is not None
    assert "create_graph=True" in found.reason
    assert said(program("float"), "unfused-elementwise").status == FAILED


def test_what_checkpointing_computes_again_is_no_second_gradient() -> None:
    assert said(program("float", checkpoint=True), "unfused-elementwise").status == FAILED


@pytest.mark.parametrize("why", ["solves", "second"])
def test_sixteen_bits_are_not_advised_where_they_are_too_few(why: str) -> None:
    assert said(program("float"), "fp32-matmul").status == FAILED
    assert said(program("float", **{why: True}), "fp32-matmul").status == WITHHELD
