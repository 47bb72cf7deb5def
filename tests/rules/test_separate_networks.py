"""tensor-loop: small networks of their own weights beside each other are one product of stacked weights; layers are not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import OptimizerFacts
from mfu_doctor.rules.host.tensor_loop import tensor_loop
from tests.rules.host.test_tensor_loop import ACCUMULATE, node
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

ROUNDS, BATCH, HIDDEN = 20, 64, 8
Op = tuple[str, list[list[int]]]
TAKE: Op = ("select", [])
INTO: Op = ("linear", [[BATCH, 1], [HIDDEN, 1], [HIDDEN]])
TANH: Op = ("tanh", [[BATCH, HIDDEN]])
OUT: Op = ("linear", [[BATCH, HIDDEN], [1, HIDDEN], [1]])
NET = (TAKE, INTO, TANH, OUT)
WIDE: Op = ("linear", [[BATCH, HIDDEN], [HIDDEN, HIDDEN], [HIDDEN]])
EACH = [BATCH, 1]
ADAM = OptimizerFacts(class_name="Adam", parameters=100, elements=1_000, module="torch.optim.adam")


def networks(
    body: tuple[Op, ...] = NET,
    *,
    join: str = "cat",
    results: list[list[int]] | None = None,
    optimizer: int = 0,
    ladder: bool = False,
) -> Run:
    """Per step a network (20 us an operator) for each of 20 columns, then a backward with four weights of its own for each.

    Args:
        body: operators of a round, with the shapes of their tensors.
        join: what comes after the loop.
        results: shapes of what it joins; None: not recorded, as of more than 30.
        optimizer: operators of a step of the optimizer.
        ladder: whether the part that each round takes has a gradient.
    """
    drawn, number = Timeline(device=None), 0
    joined: dict[str, Any] = {"types": ["TensorList", "Scalar"], "dims": [[] if results is None else results, []]}
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::rand", host=1_000)
            first = number
            for _ in range(ROUNDS):
                if ladder:
                    drawn.op("aten::select", host=20, sequence=number)
                    number += 1
                for name, dims in body[1:] if ladder else body:
                    sized: dict[str, Any] = {"dims": dims, "types": ["float"] * len(dims)} if dims else {}
                    drawn.op(f"aten::{name}", host=20, sequence=number, **sized)
                number += 1
            drawn.op(f"aten::{join}", host=20, sequence=number, **joined)
            drawn.op("aten::ones_like", host=10)
            node(drawn, "CatBackward0", number, (("aten::narrow", 1),) * ROUNDS)
            for i in range(number - 1, first - 1, -1):
                if ladder and (i - first) % 2 == 0:
                    node(drawn, "SelectBackward0", i, (("aten::zeros", 5),))
                    continue
                node(drawn, "AddmmBackward0", i, (("aten::mm", 28),))
                for _ in range(4):
                    node(drawn, ACCUMULATE, ops=())
            number += 1
            with drawn.span("Optimizer.step#Adam.step"):
                for _ in range(optimizer):
                    drawn.op("aten::addcdiv_", host=10)
    return run_of(drawn, optimizers=(ADAM,))


def test_a_network_for_each_column_becomes_one_of_stacked_weights() -> None:
    """The fault was taken for the layers of a network: nothing but the optimizer over its 241 small tensors was named."""
    run = networks()
    finding = found(tensor_loop, run)
    assert "baddbmm" in finding.fix
    assert finding.detail is not None
    assert "each round has 4 weights of its own" in finding.detail
    whole = ROUNDS * 4 * 20 + 20 + (2 + ROUNDS) + ROUNDS * (2 + 28 + 4 * 2)  # with the join, its node and the gradients
    assert price_us(tensor_loop, run).high_ns == close((1 - 1 / ROUNDS) * whole)


def test_an_optimizer_that_goes_from_tensor_to_tensor_has_fewer_of_them() -> None:
    """Of 100 tensors 80 are the weights of 20 networks, and become four."""
    with_optimizer = price_us(tensor_loop, with_bandwidth(networks(optimizer=300)))
    alone = price_us(tensor_loop, with_bandwidth(networks()))
    assert with_optimizer.high_ns - alone.high_ns == close(0.76 * 300 * 10)
    assert with_optimizer.low_ns == close(alone.low_ns)


def with_bandwidth(run: Run) -> Run:
    run.__dict__["peaks"] = replace(run.peaks, bandwidth=10e9)
    return run


def test_results_that_are_joined_or_added_up_are_collected() -> None:
    found(tensor_loop, networks(results=[EACH] * ROUNDS))
    found(tensor_loop, networks((*NET, ("add", [EACH, EACH])), join="mul"))
    found(tensor_loop, networks((INTO, TANH, ("linear", [[BATCH, HIDDEN], [3, HIDDEN], [3]]))))  # of an ensemble


@pytest.mark.parametrize(
    "run",
    [
        networks((WIDE, TANH), results=[[BATCH, HIDDEN]] * ROUNDS),  # layers whose results are all used in the end
        networks(join="mul"),  # no round's result is seen to be collected
        networks(results=[EACH] * (ROUNDS + 1)),  # what the first round is given is joined too
        networks((TAKE, INTO, ("add", [[BATCH, HIDDEN], [BATCH, HIDDEN]]), OUT)),  # a state goes from round to round
        networks((INTO, TANH, TAKE, OUT)),  # a part of something else enters
        networks((TAKE, ("linear", []), TANH, OUT)),  # sizes are not known
        networks(ladder=True),  # a part of what the round before made
        networks((TAKE, INTO, ("tanh", [[BATCH, 2 * HIDDEN]]), OUT)),  # of something else than the layer before made
    ],
)
def test_rounds_that_may_need_each_other_are_layers(run: Run) -> None:
    silent(tensor_loop, run)
