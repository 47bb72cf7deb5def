"""Which calls of modules are repetitions: the same objects, unwritten, with nothing in between that changes the result."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from mfu_doctor.capture.facts.call_result import result_of
from mfu_doctor.capture.facts.repeated_calls import RepeatedCalls

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn


def plainly(call: Callable[..., None], *args: Any) -> None:
    call(*args)


def ignore(_module: Any, _args: tuple[Any, ...]) -> None:
    pass


def repeated(program: Callable[[RepeatedCalls, Any, Any], None]) -> tuple[tuple[str, int], ...]:
    """Modules that a program calls again, and how often it calls them."""
    calls = RepeatedCalls()
    net, x = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.ones(2, 3)
    calls.watch(plainly, threading.get_ident(), ignore)
    try:
        program(calls, net, x)
    finally:
        found = calls.found()
        calls.remove()
    assert all(end > start for one in found for start, end in one.spans)
    return tuple((one.module, len(one.spans)) for one in found)


def test_a_call_with_the_same_tensor_is_found_once_and_not_its_inner_calls() -> None:
    def program(_: RepeatedCalls, net: Any, x: Any) -> None:
        for given in (x, x + 1, x):
            net(given)

    assert repeated(program) == (("Sequential", 2),)


def test_a_call_without_gradients_is_found_too() -> None:
    def program(_: RepeatedCalls, net: Any, x: Any) -> None:
        with torch.no_grad():
            net(x)
        net(x)

    assert repeated(program) == (("Sequential", 2),)


def test_parameters_that_stand_in_for_others_make_another_call() -> None:
    """As in MAML: the module and its input are the same objects."""

    def program(_: RepeatedCalls, net: Any, x: Any) -> None:
        for by in (1.0, 2.0, 3.0):
            torch.func.functional_call(net, {name: by * one for name, one in net.named_parameters()}, (x,))

    assert repeated(program) == ()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_gradient_that_is_differentiated_leaves_a_call_as_it_is(device: str) -> None:
    """As where the derivatives of an equation are taken one by one."""

    def program(calls: RepeatedCalls, net: Any, x: Any) -> None:
        net, x = net.to(device), x.to(device).requires_grad_(True)
        for _derivative in range(2):
            loss = net(x).sum()
            calls.differentiated()
            torch.autograd.grad(loss, x, create_graph=True)
        assert [one.compared for one in calls.found()] == [device == "cpu"]

    assert repeated(program) == (("Sequential", 2),)


def test_a_graph_tells_calls_apart_where_values_cannot_be_read() -> None:
    given = torch.ones(2, 3, device="meta")
    net, other = nn.Linear(3, 3, device="meta"), nn.Linear(3, 3, device="meta")
    mine, again, its = (result_of(one(given), (given,)) for one in (net, net, other))
    assert mine.differs_from(again) is False
    assert mine.differs_from(its) is True
    with torch.no_grad():
        assert mine.differs_from(result_of(net(given), (given,))) is None


def test_large_results_are_told_apart_and_those_of_no_tensors_are_unknown() -> None:
    large = torch.arange(1_000_000)
    assert result_of(large, ()).differs_from(result_of((large + 1,), ())) is True
    assert result_of({"out": large}, ()).differs_from(result_of([large.clone()], ())) is False
    assert result_of((large, 1), ()).differs_from(result_of((large, 1), ())) is None
    assert result_of(torch.empty(0), ()).differs_from(result_of(torch.empty(0), ())) is False


def written(_: RepeatedCalls, net: Any, x: Any) -> None:
    net(x)
    x.add_(1)
    net(x)


def equal_but_another(_: RepeatedCalls, net: Any, x: Any) -> None:
    for _again in range(3):
        net(x.clone())  # it may lie where the one before lay


def after_backward(calls: RepeatedCalls, net: Any, x: Any) -> None:
    net(x)
    calls.forget()
    net(x)


def other_mode(_: RepeatedCalls, net: Any, x: Any) -> None:
    net(x)
    net.eval()(x)


def other_module(_: RepeatedCalls, net: Any, x: Any) -> None:
    net(x)
    nn.Linear(3, 3)(x)


class Adapted(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Computes with what is no parameter of it: weights that stand in for others, or an adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))
        self.other: Any = None

    def forward(self, x: Any) -> Any:
        return x @ (self.weight if self.other is None else self.other)


def weights_made_by_a_gradient(calls: RepeatedCalls, _: Any, x: Any) -> None:
    """The inner steps of MAML, with weights that are plain attributes."""
    net = Adapted()
    for _inner in range(3):
        loss = net(x).square().sum()
        calls.differentiated()
        now = net.weight if net.other is None else net.other
        net.other = now - 0.1 * torch.autograd.grad(loss, now, create_graph=True)[0]


def unseen_results_around_a_gradient(calls: RepeatedCalls, net: Any, x: Any) -> None:
    net, x = net.to("meta"), x.to("meta")
    with torch.no_grad():
        net(x)
        calls.differentiated()
        net(x)


def switched_adapter(_: RepeatedCalls, __: Any, x: Any) -> None:
    net = Adapted()
    net(x)
    net.other = 2 * net.weight.detach()
    net(x)


def temporary_modules(_: RepeatedCalls, __: Any, x: Any) -> None:
    for kind in (nn.Softmax, nn.LogSoftmax, nn.Softmax):
        kind(1)(x)  # it may lie where the one before lay


class Scaled(torch.nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Any, by: float = 1.0) -> Any:
        return x * by


def another_number(_: RepeatedCalls, __: Any, x: Any) -> None:
    net = Scaled()
    net(x, 1.0)
    net(x, 2.0)


def named_arguments(_: RepeatedCalls, __: Any, x: Any) -> None:
    net = Scaled()
    net(x, by=1.0)
    net(x, by=2.0)


def too_many(calls: RepeatedCalls, net: Any, x: Any) -> None:
    calls._left = 3  # the call and its two inner ones
    net(x + 1)
    net(x)
    net(x)


OTHERS = (
    weights_made_by_a_gradient,
    unseen_results_around_a_gradient,
    switched_adapter,
    written,
    equal_but_another,
    after_backward,
    other_mode,
    other_module,
    temporary_modules,
    another_number,
    named_arguments,
    too_many,
)


@pytest.mark.parametrize("program", OTHERS, ids=lambda program: str(program.__name__))
def test_other_calls_are_no_repetition(program: Callable[[RepeatedCalls, Any, Any], None]) -> None:
    assert repeated(program) == ()


def test_nothing_of_the_program_is_referred_to_once_watching_is_over() -> None:
    """Torch swaps no tensor that anybody refers to: such as what a module got, or a parameter, also while it is watched."""
    calls = RepeatedCalls()
    net, x, parameter = nn.Linear(3, 3), torch.ones(2, 3), nn.Parameter(torch.ones(2, 3))
    calls.watch(plainly, threading.get_ident(), ignore)
    for given in (x, x, parameter, parameter):
        net(given)
    assert weakref.getweakrefcount(parameter) == 0
    calls.remove()
    assert [(one.module, len(one.spans)) for one in calls.found()] == [("Linear", 2)]
    assert weakref.getweakrefcount(x) == 0
    unwatched = nn.Linear(3, 3)
    unwatched(x)  # torch may refer to modules itself, once Dynamo is there
    assert weakref.getweakrefcount(net) == weakref.getweakrefcount(unwatched)


def test_tensors_die_as_ever_and_errors_are_the_programs_own() -> None:
    calls = RepeatedCalls()
    net, x = nn.Linear(3, 3), torch.ones(2, 3)
    calls.watch(plainly, threading.get_ident(), ignore)
    net(x)
    reference = weakref.ref(x)
    del x
    gc.collect()
    assert reference() is None
    wrong = torch.ones(2, 4)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            net(wrong)
    calls.remove()
