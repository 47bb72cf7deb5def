"""repeated-backward: a second pass through one graph that only adds to the first is needless; one that is kept apart is not."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.kernels.repeated_backward import repeated_backward
from tests.rules.drawing import compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.rules.kernels.test_unused_gradients import SQUARE, hand
from tests.timeline import Timeline


def two_losses(
    *, device: bool = False, reset: bool = False, recorded: bool = False, hands: bool = True, stepped: bool = False
) -> Run:
    """A trunk (nodes 1 and 2, 2 x 500 us each) and two heads: each loss goes back through its head and the trunk."""

    def node(drawn: Timeline, number: int, *, added: bool) -> None:
        with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op", sequence=number):
            for _ in range(2):
                told = SQUARE | ({"sequence": 90} if recorded else {})
                drawn.op("aten::mm", kernel=500 if device else None, host=10 if device else 500, **told)
        if hands:
            hand(drawn, added=added)

    def body(drawn: Timeline) -> None:
        for number in range(1, 5):
            drawn.op("aten::linear", host=10, sequence=number + 10 * drawn.steps)
        for second, head in ((False, 4), (True, 3)):
            drawn.op("aten::ones_like", host=5)
            node(drawn, head + 10 * drawn.steps, added=False)
            for number in (2, 1):
                node(drawn, number + 10 * drawn.steps, added=second and not reset)
            if stepped or second:
                with drawn.span("Optimizer.step#Adam.step"):
                    compute(drawn, 50) if device else drawn.op("aten::add_", host=50)

    return run_of(steps(body, device=device))


def test_the_second_pass_through_the_trunk_vanishes() -> None:
    for device in (False, True):
        handing = 0 if device else 2 * 8
        assert price_us(repeated_backward, two_losses(device=device)).low_ns == close(2 * 2 * 500 + handing)
    assert found(repeated_backward, two_losses()).summary.startswith("Backward runs 2 nodes per step again")


def test_passes_that_are_kept_apart_are_no_finding() -> None:
    silent(repeated_backward, two_losses(reset=True))  # the program has taken the first gradients
    silent(repeated_backward, two_losses(stepped=True))  # the optimizer has used them
    silent(repeated_backward, two_losses(recorded=True))  # they are differentiated again
    silent(repeated_backward, two_losses(hands=False))  # torch.autograd.grad
