"""unused-gradients: backward beyond the last gradient that is reset is needless; accumulation and zeros are not judged."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts.wasted_work import UnusedGradients
from mfu_doctor.rules.kernels.unused_gradients import unused_gradients
from tests.rules.drawing import compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

SQUARE: dict[str, Any] = {"dims": [[64, 64], [64, 64]], "types": ["float", "float"]}


def node(drawn: Timeline, name: str, us: int, *, device: bool) -> None:
    with drawn.span(f"autograd::engine::evaluate_function: {name}", "cpu_op"):
        drawn.python(1)
        drawn.op("aten::mm", kernel=us if device else None, host=10 if device else us, **SQUARE)


def hand(drawn: Timeline, *, added: bool) -> None:
    name = "torch::autograd::AccumulateGrad"
    with drawn.span(f"autograd::engine::evaluate_function: {name}", "cpu_op"):
        drawn.python(1)
        with drawn.span(name, "cpu_op"):
            drawn.python(1)
            drawn.op("aten::add_" if added else "aten::detach", host=5)


def loop(unused: int, *, micro: int = 1, device: bool = False, zeros: bool = False) -> Run:
    return run_of(loop_timeline(unused, micro=micro, device=device, zeros=zeros))


def loop_timeline(unused: int, *, micro: int = 1, device: bool = False, zeros: bool = False) -> Timeline:
    """Per micro-batch a forward and two used gradients (500 us each), then `unused` ones that are only ever added to."""

    def body(drawn: Timeline) -> None:
        if zeros:
            drawn.op("aten::zero_", host=5)
        for batch in range(micro):
            drawn.op("aten::linear", kernel=500 if device else None, host=10 if device else 500, sequence=1)
            for _ in range(2):
                node(drawn, "AddmmBackward0", 500, device=device)
                hand(drawn, added=batch > 0)
            for _ in range(unused):
                node(drawn, "AddmmBackward0", 500, device=device)
                hand(drawn, added=True)
        with drawn.span("Optimizer.step#SGD.step"):
            compute(drawn, 50) if device else drawn.op("aten::add_", host=50)

    return steps(body, device=device)


def test_backward_beyond_the_last_used_gradient_vanishes() -> None:
    for device in (False, True):
        run = loop(3, device=device)
        handing = 0 if device else 3 * 8  # on a CPU the additions take device time too
        assert price_us(unused_gradients, run).low_ns == close(3 * 500 + handing)
    said = found(unused_gradients, run)
    assert said.summary.startswith("At least 3 gradients per step")  # 47 of 73 were said, and 52 ms where 133 went
    assert "at least" in said.summary.partition("backward takes")[2]


def test_what_is_removed_is_no_work_of_the_model() -> None:
    """Three of five products of a step are needless: MFU after the fix is of the other two."""
    run = loop(3)
    finding = found(unused_gradients, run)
    assert run.flops.flops() == 5 * 2 * 64**3
    assert finding.needless_flops == pytest.approx(3 * 2 * 64**3)


def test_gradients_that_are_all_reset_are_no_finding() -> None:
    silent(unused_gradients, loop(0))


def test_accumulation_over_micro_batches_is_no_finding() -> None:
    silent(unused_gradients, loop(0, micro=3))


def test_gradients_that_are_zeroed_cannot_be_told_apart() -> None:
    silent(unused_gradients, loop(3, zeros=True))


def test_gradients_that_another_optimizer_resets_are_those_of_a_missing_detach() -> None:
    """A GAN: the discriminator's loss goes on into the generator (3 of 500 us), whose own loss comes after and writes its own."""

    def body(drawn: Timeline) -> None:
        for fresh, added in (((2, 0), (0, 3)), ((0, 3), (2, 0))):
            drawn.op("aten::linear", host=500, sequence=1)
            for number, is_added in ((added[0], True), (fresh[0], False), (fresh[1], False), (added[1], True)):
                for _ in range(number):
                    node(drawn, "AddmmBackward0", 500, device=False)
                    hand(drawn, added=is_added)
            with drawn.span("Optimizer.step#Adam.step"):
                drawn.op("aten::add_", host=50)

    run = run_of(steps(body, device=False))
    finding = found(unused_gradients, run)
    assert finding.summary.startswith("At least 3 gradients per step")
    assert ".detach()" in finding.fix
    assert finding.detail is not None
    assert "another optimizer resets" in finding.detail
    assert price_us(unused_gradients, run).low_ns == close(3 * 508)


def test_gradients_that_no_optimizer_resets_are_frozen() -> None:
    assert "requires_grad_(False)" in found(unused_gradients, loop(3)).fix


def with_graph(*, device: bool) -> Run:
    """A loss through a frozen network, twice: nodes 5 and 4 of the reference, 3 and 2 of the prediction, 1 of the trained model.

    Each node computes two products of 500 us, the trained one too. The recorder knows that all of the nodes of the reference
    and the second product of those of the prediction are for parameters of no optimizer.
    """

    def body(drawn: Timeline) -> None:
        for number in range(1, 6):
            drawn.op("aten::linear", kernel=500 if device else None, host=10 if device else 500, sequence=number)
        for number in (5, 4, 3, 2, 1):
            with drawn.span("autograd::engine::evaluate_function: AddmmBackward0", "cpu_op", sequence=number):
                for _ in range(2):
                    drawn.op("aten::mm", kernel=500 if device else None, host=10 if device else 500, **SQUARE)
            if number <= 3:
                hand(drawn, added=number > 1)
        with drawn.span("Optimizer.step#SGD.step"):
            compute(drawn, 50) if device else drawn.op("aten::add_", host=50)

    frozen = UnusedGradients(
        fate="frozen",
        parameters=2,
        modules=("PerceptualLoss.net",),
        sequence=(2, 3, 4, 5),
        root=(5,) * 4,
        unused=(4, 4, 6, 6),
        needed=(2, 2, 0, 0),
    )
    return run_of(steps(body, device=device), unused_gradients=(frozen,))


def test_the_graph_tells_what_is_needless_in_the_middle_of_backward() -> None:
    """Four products of the reference's branch and one of each node of the prediction's."""
    for device in (False, True):
        run = with_graph(device=device)
        handing = 0 if device else 2 * 8
        assert price_us(unused_gradients, run).low_ns == close((4 + 2) * 500 + handing)
        finding = found(unused_gradients, run)
        assert "PerceptualLoss.net" in finding.fix
        assert finding.needless_flops == pytest.approx(6 * 2 * 64**3)


def test_a_graph_without_unused_gradients_is_no_finding() -> None:
    """Whatever the writing of gradients seems to show: the recorder has followed them."""
    silent(unused_gradients, run_of(loop_timeline(3), unused_gradients=()))


def thrown(*, part: int) -> Run:
    """A step whose backward has one product of `part` us for the weights of another optimizer's model, of 2 ms in all."""

    def body(drawn: Timeline) -> None:
        drawn.op("aten::linear", host=1_500 - part, sequence=1)
        with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op", sequence=1):
            drawn.op("aten::mm", host=500, **SQUARE)
            drawn.op("aten::mm", host=part, **SQUARE)
        with drawn.span("Optimizer.step#SGD.step"):
            drawn.op("aten::add_", host=1)

    group = UnusedGradients(fate="thrown", parameters=1, sequence=(1,), root=(1,), unused=(2,), needed=(1,))
    return run_of(steps(body, device=False), unused_gradients=(group,))


def test_weights_of_another_optimizer_are_worth_switching_off_only_where_they_take_much() -> None:
    """Every healthy GAN has them: below a tenth of the step the finding is withheld, with its number."""
    assert "critic.requires_grad_(False)" in found(unused_gradients, thrown(part=300)).fix
    assert found(unused_gradients, thrown(part=300)).withhold is None
    assert "5.0 %" in str(found(unused_gradients, thrown(part=100)).withhold)


def in_the_middle(*, always: bool) -> Run:
    """Without a graph: a frozen layer between trained ones, whose gradient each pass adds to an old one (or resets in turn)."""

    def body(drawn: Timeline) -> None:
        drawn.op("aten::linear", host=500, sequence=1)
        for number in range(3):
            with drawn.span("autograd::engine::evaluate_function: AddmmBackward0", "cpu_op"):
                drawn.op("aten::mm", host=500, **SQUARE)
                drawn.op("aten::mm", host=500, **SQUARE)
            hand(drawn, added=number == 1 and (always or drawn.steps % 2 == 0))
        with drawn.span("Optimizer.step#SGD.step"):
            drawn.op("aten::add_", host=50)

    return run_of(steps(body, device=False))


def test_a_frozen_layer_between_trained_ones_is_found_without_a_graph() -> None:
    assert price_us(unused_gradients, in_the_middle(always=True)).low_ns == close(500 + 8)


def test_gradients_that_no_pass_resets_are_those_of_a_frozen_network() -> None:
    """A teacher was told `critic.requires_grad_(False)`, as if another optimizer had its parameters."""
    assert found(unused_gradients, in_the_middle(always=True)).fix.startswith("frozen.requires_grad_(False)")


def test_gradients_that_are_reset_now_and_then_are_no_finding() -> None:
    silent(unused_gradients, in_the_middle(always=False))


def retained(*, told: bool, differentiated_first: bool = False) -> Run:
    """A GAN that made its `fake` once: node 1 (500 us) runs after 3, the critic's pass, and after 5, the generator's own.

    Differentiated first, `torch.autograd.grad` has run it already. Each step has other numbers, 10 more.
    """

    def body(drawn: Timeline) -> None:
        drawn.op("aten::linear", host=1_500, sequence=10 * drawn.steps + 5)
        for number in (*(1,) * differentiated_first, 3, 1, 5, 1):
            called = "autograd::engine::evaluate_function: MmBackward0"
            with drawn.span(called, "cpu_op", sequence=10 * drawn.steps + number):
                drawn.op("aten::mm", host=500, **SQUARE)
        with drawn.span("Optimizer.step#SGD.step"):
            drawn.op("aten::add_", host=50)

    tens = range(0, 100, 10)
    node, root = tuple(ten + 1 for ten in tens), tuple(ten + 3 for ten in tens) if told else ()
    group = UnusedGradients(
        fate="thrown", parameters=1, sequence=node, root=root, unused=(2,) * len(tens), needed=(0,) * len(tens)
    )
    return run_of(steps(body, device=False), unused_gradients=(group,))


@pytest.mark.parametrize("told", [pytest.param(True, id="told"), pytest.param(False, id="not recorded")])
def test_a_node_that_runs_in_two_passes_is_removed_in_one(told: bool) -> None:
    """Both were: 40 of 68 ms were promised for a `.detach()` that saves 20."""
    assert price_us(unused_gradients, retained(told=told)).high_ns == close(500)


def test_a_node_that_was_differentiated_before_is_removed_in_its_pass() -> None:
    run = retained(told=True, differentiated_first=True)
    assert price_us(unused_gradients, run).high_ns == close(500)
