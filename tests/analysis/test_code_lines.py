"""Time by line of the user's code, with the share of the peak that each reaches; no row without lines."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.summary.code_lines import code_lines
from tests.rules.drawing import steps
from tests.rules.judging import run_of
from tests.timeline import Timeline


def product(drawn: Timeline, us: int) -> None:
    drawn.op("aten::mm", kernel=us, dims=[[4096, 4096], [4096, 4096]], types=["float", "float"])


def test_each_line_has_the_time_that_its_operators_take() -> None:
    def body(drawn: Timeline) -> None:
        with drawn.span("model.py(9): forward", "python_function"):
            product(drawn, 30_000)
            product(drawn, 10_000)
        with drawn.span("loss.py(4): loss", "python_function"):
            drawn.op("aten::exp", kernel=10_000)

    run = run_of(steps(body))
    rows = code_lines(run)
    assert [row.place for row in rows] == ["model.py:9", "loss.py:4"]
    first, second = rows
    assert first.seconds == pytest.approx(40e-3)
    assert second.seconds == pytest.approx(10e-3)
    assert first.share == pytest.approx(4 * second.share)
    assert first.flops == 2 * 2 * 4096**3
    assert first.peak_share == pytest.approx(first.flops / 40e-3 / run.peaks.of("fp32"), rel=1e-3)  # type: ignore[operator]
    assert second.flops is None
    assert second.peak_share is None


def test_without_lines_there_is_no_row() -> None:
    assert code_lines(run_of(steps(lambda drawn: product(drawn, 1_000)))) == ()
