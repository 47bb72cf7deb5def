"""Zeros of constant operands are counted beside the recorded step, and the nodes of their products are read in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mfu_doctor.capture.facts import zero_operands
from mfu_doctor.capture.facts.backward_graph import nodes_behind
from mfu_doctor.capture.facts.zero_operands import ZeroCounts
from mfu_doctor.facts.wasted_work import SparseOperand

torch = pytest.importorskip("torch", reason="torch is not installed")
nn, functional = torch.nn, torch.nn.functional

ROWS, WIDTH = 200, 8
Tensor = Any


def adjacency() -> Tensor:
    """A ring: two neighbours for each row."""
    rows = torch.arange(ROWS)
    matrix = torch.zeros(ROWS, ROWS)
    matrix[rows, (rows + 1) % ROWS] = matrix[rows, (rows - 1) % ROWS] = 1.0
    return matrix


def learned() -> Tensor:
    return nn.Parameter(torch.ones(ROWS, WIDTH))


def observed(
    step: Callable[[], Tensor], passes: tuple[bool, ...] = (False, True)
) -> tuple[tuple[SparseOperand, ...] | None, dict[int, str]]:
    """What is told of passes, of which some are recorded, and the names of the nodes of the recorded ones by their number."""
    counts = ZeroCounts()
    known: dict[int, str] = {}
    for recorded in passes:
        root = step()
        nodes = nodes_behind((root,)) or []
        counts.begins(nodes, recorded)
        if recorded:
            known |= {node._sequence_nr(): node.name() for node in nodes if not node.name().endswith("AccumulateGrad")}
        root.sum().backward()
    return counts.found(), known


def only(step: Callable[[], Tensor]) -> SparseOperand:
    told, _ = observed(step)
    assert told is not None
    (one,) = told
    return one


def test_a_constant_matrix_is_counted_and_its_products_are_named() -> None:
    matrix, hidden = adjacency(), learned()
    told, known = observed(lambda: matrix @ torch.relu(matrix @ torch.relu(hidden)))
    assert told is not None
    assert [(one.dims, one.nonzero, one.one_each) for one in told] == [((ROWS, ROWS), 2 / ROWS, False)] * 2
    assert {known[n] for one in told for n in one.sequence} == {"MmBackward0"}
    assert len({n for one in told for n in one.sequence}) == 2


def test_one_hot_rows_times_a_weight_are_a_selection() -> None:
    layer = nn.Linear(ROWS, WIDTH)
    one_hot = functional.one_hot(torch.randint(ROWS, (ROWS,)), ROWS).float()
    one = only(lambda: layer(one_hot))
    assert (one.nonzero, one.one_each, one.with_parameter) == (1 / ROWS, True, True)
    right = only(lambda: torch.relu(learned()).t() @ one_hot.t())
    assert (right.one_each, right.with_parameter) == (True, False)


def test_a_batch_of_matrices_and_one_that_is_shown_for_each_are_counted() -> None:
    hidden = nn.Parameter(torch.ones(3, ROWS, WIDTH))
    batch = only(lambda: torch.bmm(adjacency().repeat(3, 1, 1), hidden))
    shown = only(lambda: torch.bmm(adjacency().expand(3, ROWS, ROWS), hidden))
    assert batch.nonzero == shown.nonzero == 2 / ROWS
    added = only(lambda: torch.baddbmm(hidden, adjacency().repeat(3, 1, 1), hidden))
    assert added.nonzero == 2 / ROWS


def test_the_most_non_zeros_of_all_passes_are_told() -> None:
    matrices = [adjacency(), adjacency() + torch.eye(ROWS), adjacency()]
    told, _ = observed(lambda: matrices.pop(0) @ learned(), (False, False, True))
    assert told is not None
    assert told[0].nonzero == 3 / ROWS


def test_low_precision_is_counted_beyond_what_it_can_count() -> None:
    """bfloat16 counts to 256."""
    matrix = torch.zeros(600, 600, dtype=torch.bfloat16)
    matrix[:, :300] = 1
    weight = nn.Parameter(torch.ones(600, 2, dtype=torch.bfloat16))
    assert only(lambda: matrix @ weight).nonzero == 0.5


def test_double_precision_is_counted_and_complex_numbers_are_not() -> None:
    assert only(lambda: adjacency().double() @ learned().double()).nonzero == 2 / ROWS
    wide = torch.complex64
    assert observed(lambda: torch.abs(adjacency().to(wide) @ learned().to(wide)))[0] is None


def test_what_learns_and_what_is_small_is_not_looked_at() -> None:
    frozen = nn.Linear(ROWS, ROWS).requires_grad_(False)
    frozen.weight.zero_()
    assert observed(lambda: frozen(learned().t()))[0] is None
    both = nn.Parameter(torch.zeros(ROWS, ROWS))
    assert observed(lambda: both @ learned())[0] is None
    assert observed(lambda: torch.eye(WIDTH) @ nn.Parameter(torch.ones(WIDTH, WIDTH)))[0] is None


def test_a_matrix_without_zeros_is_told_as_none() -> None:
    dense = torch.ones(ROWS, ROWS)
    assert observed(lambda: dense @ learned())[0] == ()


def test_a_recording_alone_or_none_tells_nothing() -> None:
    """Counting is work that a recorded step must not have."""
    matrix = adjacency()
    assert observed(lambda: matrix @ learned(), (True,))[0] is None
    assert observed(lambda: matrix @ learned(), (False,))[0] is None


def test_counting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_operands, "_MOST_COUNTS", 2)
    counts, matrix = ZeroCounts(_left=3 * ROWS * ROWS), adjacency()
    for recorded in (False, False, False, True):
        counts.begins(nodes_behind((matrix @ learned(),)) or (), recorded)
    assert len(counts._counts) == 2
    spent = ZeroCounts(_left=ROWS)
    spent.begins(nodes_behind((matrix @ learned(),)) or (), recorded=False)
    assert spent._counts == []


def test_counting_does_not_wait_for_a_device_and_counts_a_matrix_once() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(str(func))
            return func(*args, **(kwargs or {}))

    called: list[str] = []
    counts, matrix, hidden = ZeroCounts(), adjacency(), learned()
    for recorded in (False, True):
        nodes = nodes_behind((matrix @ torch.relu(matrix @ hidden),)) or ()
        with Operators():  # type: ignore[no-untyped-call]
            counts.begins(nodes, recorded)
    assert sum("vector_norm" in name for name in called) == 1
    assert not any("item" in name or "_to_copy" in name or "local_scalar" in name for name in called)


def test_matrices_behind_hooks_of_the_program_are_not_unpacked() -> None:
    unpacked: list[Any] = []

    def unpack(kept: Any) -> Any:
        unpacked.append(kept)
        return kept

    counts, matrix, hidden = ZeroCounts(), adjacency(), learned()
    for recorded in (False, True):
        with torch.autograd.graph.saved_tensors_hooks(lambda x: x, unpack):
            root = matrix @ hidden
        counts.begins(nodes_behind((root,)) or (), recorded)
    assert counts.found() is None
    assert unpacked == []


def test_an_operand_whose_memory_the_program_has_freed_is_not_read() -> None:
    """As where activations are dropped after forward and computed again before backward."""
    matrix, weight = adjacency(), learned()
    root = (matrix @ weight).sum()
    matrix.untyped_storage().resize_(0)
    counts = ZeroCounts()
    for recorded in (False, True):
        counts.begins(nodes_behind((root,)) or [], recorded)
    assert counts.found() is None


def test_operands_and_gradients_stay_as_they_are() -> None:
    matrix, hidden = adjacency(), learned()
    version, state = matrix._version, torch.random.get_rng_state()
    root = (matrix @ hidden).square().sum()
    ZeroCounts().begins(nodes_behind((root,)) or (), recorded=False)
    root.backward()
    assert torch.equal(hidden.grad, 2 * matrix.t() @ (matrix @ hidden.detach()))
    assert matrix._version == version
    assert torch.equal(state, torch.random.get_rng_state())
