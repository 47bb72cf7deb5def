"""Steps of traces without step marks, where several optimizers take turns."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from tests.rules.judging import run_of
from tests.timeline import Timeline


def trained(turn: str, *, turns: int = 4, one_class: bool = True, fetched: str = "") -> Run:
    """Each letter is an update of 1 ms by an optimizer with a backward of its own; those of `fetched` load a batch before it."""
    drawn = Timeline(device=None)
    for letter in turn * turns:
        if letter in fetched:
            drawn.fetch(20)
        drawn.op("aten::linear", host=500)
        with drawn.span(f"autograd::engine::evaluate_function: {letter}Backward0", "cpu_op"):
            drawn.op("aten::mm", host=380)
        with drawn.span(f"Optimizer.step#{'Adam' if one_class else letter}.step"):
            drawn.op("aten::add_", host=100)
    return run_of(drawn)


@pytest.mark.parametrize("one_class", [True, False])
@pytest.mark.parametrize(("turn", "updates"), [("DDDG", 4), ("CAT", 3), ("DG", 2), ("AABB", 4)])
def test_a_step_is_a_turn_of_all_optimizers(turn: str, updates: int, one_class: bool) -> None:
    run = trained(turn, one_class=one_class)
    assert run.steps.duration.tolist() == pytest.approx([980_000 * updates] * 3, rel=0.05)
    assert run.steps.note == f"No ProfilerStep# events: a step is {updates} updates by optimizers that take turns"


def test_one_optimizer_takes_no_turns() -> None:
    run = trained("D", turns=8)
    assert run.steps.count == 7
    assert run.steps.note == "No ProfilerStep# events: each step ends when Optimizer.step ends"


def test_updates_with_a_batch_each_are_steps() -> None:
    """Two tasks of one model: every second batch has another loss."""
    assert trained("AB", fetched="AB").steps.count == 7
    assert trained("DDDG", fetched="D").steps.count == 3


def test_what_comes_seldom_is_no_part_of_a_turn() -> None:
    run = trained("D" * 13 + "E", turns=2)
    assert run.steps.count == 27
