"""sparse-mask: work on scores shrinks to what a mask keeps of them; a mask that keeps more is no finding."""

from __future__ import annotations

from itertools import count
from typing import Any

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.wasted_work import KeptScores
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.sparse_mask import sparse_mask
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

SCORES, NODES = [4, 1000, 1000], [4, 1000, 16]
GRAPH = KeptScores(dims=(4, 1000, 1000), kept=0.004, sequence=tuple(range(20)))


def attention() -> Timeline:
    """A layer of 5,000 us, scores of 6,000 us forward and 3,000 us in backward."""
    numbers = count()

    def body(drawn: Timeline) -> None:
        number = next(numbers)
        drawn.op("aten::mm", host=5_000, dims=[[1000, 64], [64, 64]], types=["float", "float"])
        one: dict[str, Any] = {"dims": [SCORES, [], []], "types": ["float", "", ""]}
        drawn.op("aten::where", host=2_000, **one)
        drawn.op("aten::_softmax", host=1_000, sequence=number, **one)
        drawn.op("aten::bmm", host=3_000, dims=[SCORES, NODES], types=["float", "float"])
        with drawn.span("autograd::engine::evaluate_function: SoftmaxBackward0", "cpu_op", sequence=number):
            drawn.op("aten::_softmax_backward_data", host=3_000, **one)

    return steps(body, device=False)


def told(*kept: KeptScores) -> Run:
    return run_of(attention(), kept_scores=kept)


def test_work_on_scores_shrinks_to_what_is_kept() -> None:
    price = price_us(sparse_mask, told(GRAPH))
    assert price.high_ns == close(9_000 * (1 - 0.004))
    assert price.mid_ns == close(9_000 * (1 - 0.04))
    assert price.low_ns == close(9_000 * (1 - 0.16))
    finding = found(sparse_mask, told(GRAPH))
    assert "a mask keeps 0.40 %" in finding.summary
    assert "mask.nonzero" in finding.fix


def test_a_mask_that_keeps_more_is_no_finding() -> None:
    silent(sparse_mask, told(KeptScores(dims=GRAPH.dims, kept=0.5, sequence=GRAPH.sequence)))
    silent(sparse_mask, told(KeptScores(dims=GRAPH.dims, kept=0.0, sequence=GRAPH.sequence)))  # a stand-in
    silent(sparse_mask, told())


def test_without_counts_it_is_not_measured() -> None:
    assert isinstance(sparse_mask.judge(run_of(attention(), tool_version="0.1.0")), Skip)
