"""The optimizer's own time: what a closure computes inside `optimizer.step(closure)` is not the optimizer's."""

from __future__ import annotations

import numpy as np
import pytest

from mfu_doctor.analysis.evidence.optimizer import optimizer_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.names.optimizers import TORCH_OPTIMIZERS
from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.communication.late_optimizer import late_optimizer
from mfu_doctor.rules.kernels.unfused_optimizer import unfused_optimizer
from tests.rules.judging import run_of, silent
from tests.timeline import Timeline

NODE = "autograd::engine::evaluate_function: MmBackward0"


def backward(t: Timeline, us: int) -> None:
    with t.span(NODE, "cpu_op"):
        t.op("aten::mm", host=us)


def closure(t: Timeline, sequence: int = 7) -> None:
    """50 us of Python, 1 ms of forward, 2 ms of backward, as autograd marks them."""
    with t.span("Optimizer.zero_grad#Any.zero_grad"):
        t.python(20)
    t.python(30)
    t.op("aten::linear", host=1_000, sequence=sequence)
    t.op("aten::ones_like", host=10)
    backward(t, 2_000)


def stepping(name: str, *parts: str, own: str = "aten::addcdiv_", count: int = 4) -> Run:
    """Steps of one optimizer that call the closure and update (100 us) in this order."""
    t = Timeline(device=None)
    for _ in range(count):
        with t.step():
            t.op("aten::mm", host=100)
            with t.span(f"Optimizer.step#{name}.step"):
                for part in parts:
                    if part == "closure":
                        closure(t)
                    elif part == "clip":
                        for op in ("aten::linalg_vector_norm", "aten::clamp", "aten::mul_", "aten::mul_"):
                            t.op(op, host=50)
                    else:
                        t.op(own, host=100)
                        t.python(10)
    return run_of(t)


def own_us(run: Run) -> float:
    return run.optimizer_steps.own.total_ns / 4 / 1000


@pytest.mark.parametrize("name", ["AdamW", "SGD", "LBFGS", "Lion"])
def test_a_closure_is_no_work_of_the_optimizer(name: str) -> None:
    run = stepping(name, "closure", "update", "update")
    assert own_us(run) == pytest.approx(220)
    assert run.optimizer_steps.closures.total_ns / 4 == pytest.approx(3_060_000)
    optimizer = optimizer_of(run, steady_of(run))
    assert optimizer is not None
    assert optimizer.launches == 2
    named = {run.trace.name_of(int(row)) for row in optimizer.rows}
    assert named == {"aten::addcdiv_"}


def test_a_line_search_calls_its_closure_between_updates() -> None:
    run = stepping("LBFGS", "closure", "update", "closure", "update", "update", "closure", "update")
    assert own_us(run) == pytest.approx(440)


def test_a_step_without_a_closure_is_all_the_optimizers() -> None:
    run = stepping("AdamW", "update", "update")
    assert own_us(run) == pytest.approx(220)
    assert run.optimizer_steps.closures.total_ns == 0


def test_an_update_before_the_closure_is_the_optimizers() -> None:
    """SAM climbs first, and then computes the gradients there."""
    assert own_us(stepping("SAM", "update", "closure", "update")) == pytest.approx(220)


def test_clipping_between_the_closure_and_the_update_belongs_to_the_closure() -> None:
    """Lightning clips gradients inside optimizer.step."""
    assert own_us(stepping("AdamW", "closure", "clip", "update")) == pytest.approx(110)


def test_an_optimizer_of_ones_own_may_update_with_gradients_recorded() -> None:
    t = Timeline(device=None)
    for _ in range(4):
        with t.step(), t.span("Optimizer.step#MyAdam.step"):
            closure(t)
            t.op("aten::mul_", host=100, sequence=9)
            t.op("aten::add_", host=100, sequence=9)
    assert own_us(run_of(t)) == pytest.approx(200)


def test_backward_on_the_thread_of_autograd_is_the_closures_too() -> None:
    t = Timeline()
    for _ in range(4):
        with t.step(), t.span("Optimizer.step#SGD.step"):
            t.op("aten::linear", kernel=1_000, sequence=3)
            start = t.now
            t.add("cpu_op", NODE, start, 500, tid=300)
            t.python(510)
            t.op("aten::add_", kernel=10)
    assert own_us(run_of(t)) == pytest.approx(20)  # 10 us of Python after backward, and the operator


def test_the_kernels_of_a_closure_are_not_shown_as_the_optimizers() -> None:
    run = stepping("AdamW", "closure", "update")
    assert float(run.kernels.is_kind("optimizer").mean()) == pytest.approx(1 / 5)  # mm, linear, ones_like, mm, addcdiv_
    silent(late_optimizer, run)


def test_a_step_that_is_nearly_all_closure_is_no_unfused_optimizer() -> None:
    silent(unfused_optimizer, stepping("SGD", "closure", "update", "update", own="aten::add_"))


def test_the_table_has_only_options_that_torch_has() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import inspect

    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    for name, row in TORCH_OPTIMIZERS.items():
        of = getattr(torch.optim, name, None)
        if of is None:
            continue
        taken = inspect.signature(of.__init__).parameters
        for option, since in (("foreach", row.foreach), ("fused", row.fused_cpu), ("fused", row.fused_gpu)):
            if since is not None and version >= since:
                assert option in taken, f"{name} has no {option} in torch {torch.__version__}"


def test_every_step_event_is_kept() -> None:
    run = stepping("LBFGS", "closure", "update", "closure", "update")
    assert len(run.optimizer_steps.marks) == 4
    assert np.diff(run.optimizer_steps.own.start).min() > 0
