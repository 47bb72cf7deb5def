"""repeated-forward: a second call with the same tensors vanishes, with its backward; one that draws random numbers does not."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest

from mfu_doctor.analysis.evidence import repeated_calls
from mfu_doctor.analysis.evidence.repeated_calls import repeated_calls_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.wasted_work import RepeatedCall, RepeatedGradient
from mfu_doctor.rules.kernels.repeated_forward import repeated_forward
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.rules.kernels.test_unused_gradients import SQUARE, hand
from tests.timeline import Timeline


def called_twice(*, device: bool = False, both: bool = False, random: bool = False, told: bool = True) -> Run:
    """Two calls of 1 ms each; backward (2 ms) goes through the second, or with `both` through each of them."""
    ends: list[tuple[int, int]] = []

    def body(drawn: Timeline) -> None:
        number = 2 * drawn.steps
        for call in (0, 1):
            drawn.python(10)
            start = drawn.now
            drawn.op(
                "aten::mm",
                kernel=1_000 if device else None,
                host=10 if device else 1_000,
                sequence=number + call,
                **SQUARE,
            )
            if random:
                drawn.op("aten::native_dropout", host=10)
            ends.append((start * 1_000, drawn.now * 1_000))
            drawn.python(10)
        drawn.op("aten::ones_like", host=5)
        for call in (1, 0) if both else (1,):
            with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op", sequence=number + call):
                drawn.op("aten::mm", kernel=2_000 if device else None, host=10 if device else 2_000, **SQUARE)
        hand(drawn, added=False)
        with drawn.span("Optimizer.step#SGD.step"):
            drawn.op("aten::add_", host=20)

    drawn = steps(body, device=device)
    origin = run_of(drawn).trace.origin_ns
    calls = tuple(
        RepeatedCall(module="Net", spans=tuple((origin + a, origin + b) for a, b in ends[at : at + 2]))
        for at in range(0, len(ends), 2)
    )
    return run_of(drawn, repeated_calls=calls if told else ())


NODE = "autograd::engine::evaluate_function: {}Backward0"


def gradient_taken_twice(*, other: bool = False) -> Run:
    """Two calls of 1 ms, each with the gradient (2 ms) of its sum, or one of its mean; backward takes 5 ms for each."""
    ends: list[tuple[int, int]] = []

    def body(drawn: Timeline) -> None:
        number = 10 * drawn.steps
        for call in (number, number + 3):
            drawn.python(10)
            start = drawn.now
            drawn.op("aten::mm", host=1_000, sequence=call, **SQUARE)
            ends.append((start * 1_000, drawn.now * 1_000))
            drawn.op(
                "aten::mean" if other and call > number else "aten::sum",
                host=10,
                sequence=call + 1,
                dims=[[64, 64], []],
            )
            drawn.op("aten::ones_like", host=5, dims=[[], []])
            with drawn.span(NODE.format("Mm"), "cpu_op", sequence=call):
                drawn.op("aten::mm", host=2_000, sequence=call + 2, **SQUARE)
            drawn.op("aten::slice", host=10, sequence=call + 3)
        drawn.op("aten::ones_like", host=5)
        for call in (number + 3, number):
            with drawn.span(NODE.format("Mm"), "cpu_op", sequence=call + 2):
                drawn.op("aten::mm", host=3_000, **SQUARE)
            with drawn.span(NODE.format("Mm"), "cpu_op", sequence=call):
                drawn.op("aten::mm", host=2_000, **SQUARE)
        hand(drawn, added=False)
        with drawn.span("Optimizer.step#SGD.step"):
            drawn.op("aten::add_", host=20)

    drawn = steps(body, device=False)
    origin = run_of(drawn).trace.origin_ns
    calls = tuple(
        RepeatedCall(module="Net", spans=tuple((origin + a, origin + b) for a, b in ends[at : at + 2]))
        for at in range(0, len(ends), 2)
    )
    return run_of(drawn, repeated_calls=calls)


def test_a_gradient_of_the_same_output_is_computed_once() -> None:
    """The other call, its gradient, and what backward does for both."""
    run = gradient_taken_twice()
    assert price_us(repeated_forward, run).low_ns == close(1_000 + 2_000 + 3_000 + 2_000)
    assert "autograd.grad(out.sum(), x, create_graph=True) once" in found(repeated_forward, run).fix


def test_a_gradient_of_something_else_stays() -> None:
    assert price_us(repeated_forward, gradient_taken_twice(other=True)).low_ns == close(1_000 + 2_000)


def fields(columns: str, *, told: bool, shapes: bool = True, called: bool = True) -> Run:
    """For each column a call of 1 ms and the gradient (2 ms) of its sum; backward takes 5 ms for each."""
    ends: list[tuple[int, int]] = []
    passes: list[tuple[int, int]] = []

    def body(drawn: Timeline) -> None:
        number = 10 * len(columns) * drawn.steps
        for i, column in enumerate(columns):
            at = number + 4 * i
            start = drawn.now
            drawn.op("aten::mm", host=1_000, sequence=at, **SQUARE)
            ends.append((start * 1_000, drawn.now * 1_000))
            given: dict[str, Any] = {"dims": [[64, 64], [], [], [], []], "concrete": ["", "1", column, "9", "1"]}
            drawn.op("aten::narrow_copy", host=10, sequence=at + 1, **(given if shapes else {}))
            start = drawn.now
            with drawn.span(NODE.format("Mm"), "cpu_op", sequence=at):
                drawn.op("aten::mm", host=2_000, sequence=at + 2, **SQUARE)
            passes.append((start * 1_000, drawn.now * 1_000))
            drawn.op("aten::mul", host=10, sequence=at + 3, dims=[[64, 64], [64, 64]])
        drawn.op("aten::ones_like", host=5)
        for i in reversed(range(len(columns))):
            at = number + 4 * i
            with drawn.span(NODE.format("Mm"), "cpu_op", sequence=at + 2):
                drawn.op("aten::mm", host=3_000, **SQUARE)
            with drawn.span(NODE.format("Mm"), "cpu_op", sequence=at):
                drawn.op("aten::mm", host=2_000, **SQUARE)
        hand(drawn, added=False)
        with drawn.span("Optimizer.step#SGD.step"):
            drawn.op("aten::add_", host=20)

    drawn = steps(body, device=False)
    origin, n = run_of(drawn).trace.origin_ns, len(columns)
    of_steps = range(0, len(ends), n)
    shifted = [[(origin + a, origin + b) for a, b in spans] for spans in (ends, passes)]
    calls = tuple(RepeatedCall(module="Net", spans=tuple(shifted[0][at : at + n])) for at in of_steps)
    groups = [[i for i, one in enumerate(columns) if one == column] for column in dict.fromkeys(columns)]
    again = tuple(
        RepeatedGradient(spans=tuple(shifted[1][at + i] for i in group))
        for at in of_steps
        for group in groups
        if len(group) > 1
    )
    return run_of(drawn, repeated_calls=calls if called else (), repeated_gradients=again if told else ())


def test_a_gradient_is_computed_once_for_each_output_that_is_differentiated() -> None:
    """Columns u, v, u, v, v: three calls come with a gradient that another one has, one with a gradient of its own."""
    run = fields("01011", told=False)
    needless = 4 * (1_000 + 2_000) + 3 * (10 + 2_000 + 3_000)
    assert price_us(repeated_forward, run).low_ns == close(needless)


def test_gradients_that_gave_the_same_are_needless_whatever_lies_between() -> None:
    """An operator without shapes comes after the call: what follows it is known from what the passes gave."""
    run = fields("01011", told=True, shapes=False)
    assert price_us(repeated_forward, run).low_ns == close(4 * (1_000 + 2_000) + 3 * (2_000 + 3_000))
    assert price_us(repeated_forward, fields("01011", told=False, shapes=False)).low_ns == close(4 * (1_000 + 2_000))


def test_both_ways_to_know_a_gradient_count_it_once() -> None:
    told, seen = fields("01011", told=True), fields("01011", told=False)
    assert price_us(repeated_forward, told) == price_us(repeated_forward, seen)


def test_a_gradient_taken_again_from_one_output_is_a_finding_of_its_own() -> None:
    finding = found(repeated_forward, fields("0011", told=True, called=False))
    assert finding.summary.startswith("A gradient that the step has is taken again")


def test_the_call_that_backward_does_not_go_through_vanishes() -> None:
    for device in (False, True):
        assert price_us(repeated_forward, called_twice(device=device)).low_ns == close(1_000)
    finding = found(repeated_forward, called_twice())
    assert "Net is called again" in finding.summary
    assert "out.detach()" in finding.fix


def test_of_two_calls_with_a_backward_one_pass_is_left() -> None:
    assert price_us(repeated_forward, called_twice(both=True)).low_ns == close(1_000 + 2_000)


def test_calls_that_differ_are_no_finding() -> None:
    silent(repeated_forward, called_twice(random=True))
    silent(repeated_forward, called_twice(told=False))


def calls_in_a_row(count: int, *, waits_us: int = 0, compared: bool = False) -> Run:
    """So many equal calls of 1 ms, each with 20 us for a metric after it; then a wait for the next batch."""
    ends: list[tuple[int, int]] = []

    def body(drawn: Timeline) -> None:
        for _ in range(count):
            start = drawn.now
            drawn.op("aten::mm", host=1_000, **SQUARE)
            ends.append((start * 1_000, drawn.now * 1_000))
            drawn.op("aten::argmax", host=20, dims=[[64, 64], [], []])
        drawn.python(waits_us)

    drawn = steps(body, device=False)
    origin = run_of(drawn).trace.origin_ns
    spans = tuple((origin + a, origin + b) for a, b in ends)
    each = (spans[at : at + count] for at in range(0, len(ends), count))
    told = tuple(RepeatedCall(module="Net", spans=one, compared=compared) for one in each)
    return run_of(drawn, repeated_calls=told)


def test_what_the_step_waits_after_the_last_call_is_no_part_of_it() -> None:
    assert price_us(repeated_forward, calls_in_a_row(2, waits_us=20_000)).high_ns == close(1_020)


def test_each_operator_is_compared_once_however_many_calls_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    kind = repeated_calls._kind

    def counting(run: Run, row: int) -> Hashable:
        compared.append(row)
        return kind(run, row)

    monkeypatch.setattr(repeated_calls, "_kind", counting)
    run = calls_in_a_row(40)
    assert repeated_calls_of(run) is not None
    assert len(compared) <= len(run.trace.events)


def test_calls_are_said_to_give_the_same_only_where_that_was_compared() -> None:
    assert "gave the same" not in (found(repeated_forward, calls_in_a_row(2)).detail or "")
    assert "each call gave the same" in (found(repeated_forward, calls_in_a_row(2, compared=True)).detail or "")
