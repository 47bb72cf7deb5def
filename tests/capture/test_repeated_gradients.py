"""Which gradients a step takes again: passes that make a graph of their own and give the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.capture.facts.repeated_gradients import RepeatedGradients
from tests.capture.programs import TRACE, read, with_and_without
from tests.capture.zygote import Zygote

torch = pytest.importorskip("torch", reason="torch is not installed")


def taken(program: Callable[[Callable[[Any], Any], RepeatedGradients], None]) -> tuple[int, ...]:
    """How often each gradient of a program is taken, of those that are taken again."""
    watched = RepeatedGradients()
    x = torch.linspace(0.1, 1.0, 10).requires_grad_(True)

    def gradient(function: Any) -> Any:
        out = function(x).sum()
        watched.begins()
        gradients = torch.autograd.grad(out, x, create_graph=True)
        watched.ended(gradients)
        return gradients[0]

    program(gradient, watched)
    assert all(end >= start for one in watched.found() for start, end in one.spans)
    return tuple(len(one.spans) for one in watched.found())


def test_gradients_of_equal_numbers_are_found() -> None:
    def program(gradient: Any, _: Any) -> None:
        for function in (torch.sin, torch.exp, torch.sin, torch.sin, torch.exp, torch.tanh):
            gradient(function)

    assert taken(program) == (3, 2)


def test_numbers_that_are_equal_by_accident_are_none() -> None:
    """Second derivatives of a piecewise linear network are zero, and the first ones of sums are one."""

    def program(gradient: Any, _: Any) -> None:
        gradient(lambda x: 0.0 * x * x)
        gradient(lambda x: 0.0 * x)
        gradient(lambda x: x)
        gradient(lambda x: x + 1.0)

    assert taken(program) == ()


def test_a_gradient_of_the_next_step_is_another_one() -> None:
    def program(gradient: Any, watched: RepeatedGradients) -> None:
        gradient(torch.sin)
        watched.forget()
        gradient(torch.sin)

    assert taken(program) == ()


def test_what_cannot_be_read_is_not_compared() -> None:
    watched = RepeatedGradients()
    for given in ((torch.ones(3, device="meta"),), (torch.ones(3).to_sparse(),), (None,), ()):
        for _again in range(2):
            watched.begins()
            watched.ended(given)
    assert watched.found() == ()


FIELDS = """
u, v = (lambda p: model(p)[:, :1]), (lambda p: model(p)[:, 1:2])
def d(f, axis):
    return lambda p: torch.autograd.grad(f(p).sum(), p, create_graph=True)[0][:, axis:axis + 1]
model[2].p = 0.0
with block() as doctor:
    for x, y in loader(30):
        x.requires_grad_(True)
        loss = (u(x) * d(u, 0)(x) + v(x) * d(u, 1)(x) + d(d(u, 0), 0)(x) + d(v, 1)(x)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print("loss", loss.item().hex(), flush=True)
"""


def test_a_recording_tells_the_gradients_that_its_step_takes_again(zygote: Zygote, tmp_path: Path) -> None:
    """That of u three times, once inside of its second derivative; the others once. Training is the same."""
    with_and_without(zygote, tmp_path, FIELDS)
    facts = read(tmp_path / "ours" / TRACE).facts
    assert facts.repeated_gradients is not None
    assert [len(one.spans) for one in facts.repeated_gradients] == [3]
