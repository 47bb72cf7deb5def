"""Masks before a softmax are counted beside the recorded step, and the nodes of their softmaxes are read in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mfu_doctor.capture.facts.backward_graph import nodes_behind
from mfu_doctor.capture.facts.kept_scores import MaskCounts
from mfu_doctor.facts.wasted_work import KeptScores

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn

NODES, HEADS = 200, 4
Tensor = Any


def ring() -> Tensor:
    """Each node has one neighbour, and itself."""
    return (torch.eye(NODES) + torch.eye(NODES).roll(1, 0)).bool()


def scores() -> Tensor:
    return nn.Parameter(torch.randn(HEADS, NODES, NODES))


def observed(
    step: Callable[[], Tensor], passes: tuple[bool, ...] = (False, True)
) -> tuple[tuple[KeptScores, ...] | None, set[int]]:
    """What is told of passes, of which some are recorded, and the numbers of the softmaxes in those."""
    counts = MaskCounts()
    known: set[int] = set()
    for recorded in passes:
        root = step()
        nodes = nodes_behind((root,)) or []
        counts.begins(nodes, recorded)
        if recorded:
            known |= {node._sequence_nr() for node in nodes if node.name() == "SoftmaxBackward0"}
        root.sum().backward()
    return counts.found(), known


@pytest.mark.parametrize(
    "masked",
    [
        lambda e: torch.where(ring(), e, torch.full_like(e, -9e15)),
        lambda e: torch.where(~ring(), torch.full_like(e, -9e15), e),
        lambda e: e.masked_fill(~ring(), float("-inf")),
    ],
)
def test_what_a_mask_keeps_is_counted_whichever_way_it_is_written(masked: Callable[[Tensor], Tensor]) -> None:
    e = scores()
    told, numbers = observed(lambda: masked(e * 2).softmax(-1))
    assert told is not None
    (one,) = told
    assert one.kept == pytest.approx(2 / NODES)
    assert one.dims == (HEADS, NODES, NODES)
    assert set(one.sequence) == numbers


def test_the_most_of_all_passes_is_told() -> None:
    e, masks = scores(), iter((ring(), ring() | ring().T, ring()))
    told, _ = observed(lambda: e.masked_fill(~next(masks), float("-inf")).softmax(-1), (False, False, True))
    assert told is not None
    assert told[0].kept == pytest.approx(3 / NODES)


def test_a_choice_between_two_kinds_of_scores_masks_nothing() -> None:
    e, other = scores(), scores()
    told, _ = observed(lambda: torch.where(ring(), e * 2, other * 2).softmax(-1))
    assert told is None


def test_nothing_is_told_of_what_was_not_counted() -> None:
    e = scores()
    assert observed(lambda: e.masked_fill(~ring(), float("-inf")).softmax(-1), (True,))[0] is None
    assert observed(lambda: (e * 2).softmax(-1))[0] is None


def test_a_choice_among_many_is_no_pair() -> None:
    """Legal moves of a policy, experts of a router."""
    moves, legal = nn.Parameter(torch.randn(64, 4096)), torch.zeros(64, 4096, dtype=torch.bool)
    legal[:, :9] = True
    assert observed(lambda: (moves * 2).masked_fill(~legal, float("-inf")).softmax(-1))[0] is None


def test_a_mask_of_the_best_scores_needs_all_scores() -> None:
    e = scores()

    def step() -> Tensor:
        doubled = e * 2
        least = doubled.topk(3, dim=-1).values[..., -1:]
        return doubled.masked_fill(doubled < least, float("-inf")).softmax(-1)

    assert observed(step)[0] is None


def test_a_graph_has_one_mask_for_all_heads_or_one_head() -> None:
    e = nn.Parameter(torch.randn(400, 400))
    mask = torch.eye(400, dtype=torch.bool)
    told, _ = observed(lambda: (e * 2).masked_fill(~mask, float("-inf")).softmax(-1), (False, False, True))
    assert told is not None
    assert told[0].kept == pytest.approx(1 / 400)


def test_a_mask_of_one_head_that_changes_with_the_scores_is_its_own() -> None:
    def step() -> Tensor:
        e = nn.Parameter(torch.randn(400, 400)) * 2
        return e.masked_fill(e < e.topk(3, dim=-1).values[..., -1:], float("-inf")).softmax(-1)

    assert not observed(step, (False, False, True))[0]
