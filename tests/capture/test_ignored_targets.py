"""Ignored targets are counted beside the recorded step, and the nodes that compute their logits are read in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mfu_doctor.capture.facts.backward_graph import nodes_behind
from mfu_doctor.capture.facts.ignored_targets import TargetCounts
from mfu_doctor.facts.wasted_work import IgnoredTargets

torch = pytest.importorskip("torch", reason="torch is not installed")
nn, functional = torch.nn, torch.nn.functional

Loss = Callable[[Any, Any], Any]
HIDDEN, CLASSES, ROWS = 4, 7, 10
LABELS = torch.tensor([1, 2, -100, 3, -100, -100, 4, 5, -100, -100])


def observed(loss: Loss, labels: Any = LABELS, passes: tuple[bool, ...] = (False, True, False)) -> Any:
    """What is told of passes, of which some are recorded, and the names of the nodes of the last one by their number."""
    counts, head = TargetCounts(), nn.Linear(HIDDEN, CLASSES)
    with torch.no_grad():
        head.bias.copy_(torch.arange(float(CLASSES)))  # the lower a label, the greater its loss
        head.weight.zero_()
    known: dict[int, str] = {}
    for recorded in passes:
        root = loss(head(torch.ones(ROWS, HIDDEN)), labels)
        counts.begins(nodes_behind((root,)) or (), recorded)
        if recorded:
            left = [root.grad_fn]
            while left:
                node = left.pop()
                known[node._sequence_nr()] = node.name()
                left += [child for child, _ in node.next_functions if child is not None]
        root.backward()
    told = counts.ignored()
    return told, known


def only(told: tuple[IgnoredTargets, ...] | None) -> IgnoredTargets:
    assert told is not None
    (one,) = told
    return one


def test_ignored_targets_are_counted_and_the_nodes_from_their_logits_on_are_named() -> None:
    told, known = observed(functional.cross_entropy)
    loss = only(told)
    assert (loss.targets, loss.ignored, loss.losses, loss.least) == (20, 10, 2, 0.5)
    assert sorted(known[n] for n in loss.sequence) == ["AddmmBackward0", "LogSoftmaxBackward0", "NllLossBackward0"]


@pytest.mark.parametrize("ignored", [0, 255, -1])
def test_any_index_that_is_ignored_is_counted(ignored: int) -> None:
    labels = torch.where(LABELS == -100, ignored, LABELS)
    told, _ = observed(lambda x, y: functional.cross_entropy(x, y, ignore_index=ignored), labels)
    assert only(told).ignored == 10


def test_a_shifted_and_scaled_loss_of_a_language_model_leads_back_to_its_product() -> None:
    def loss(logits: Any, labels: Any) -> Any:
        shifted = (logits.view(2, 5, CLASSES)[:, :-1] / 2).contiguous().view(-1, CLASSES)
        return functional.cross_entropy(shifted.double(), labels.view(2, 5)[:, 1:].reshape(-1), label_smoothing=0.1)

    told, known = observed(loss)
    assert only(told).targets == 2 * 8
    assert "AddmmBackward0" in {known[n] for n in only(told).sequence}


def test_a_loss_that_ignores_nothing_is_told_as_none() -> None:
    told, _ = observed(functional.cross_entropy, LABELS.clamp(min=0))
    assert told == ()
    weighted, _ = observed(lambda x, y: functional.cross_entropy(x, y, torch.ones(CLASSES)), LABELS.clamp(min=0))
    assert weighted == ()


@pytest.mark.parametrize("before", [False, True])
def test_targets_whose_loss_is_multiplied_by_zero_are_ignored_too(before: bool) -> None:
    mask = LABELS != 3

    def loss(logits: Any, labels: Any) -> Any:
        each = functional.cross_entropy(logits, labels, reduction="none").view(2, 5)
        grid = mask.view(2, 5).float()
        return ((grid * each if before else each * grid).sum()) / mask.sum()

    told, known = observed(loss)
    one = only(told)
    assert (one.targets, one.ignored, one.masked) == (20, 12, True)
    assert "AddmmBackward0" in {known[n] for n in one.sequence}


@pytest.mark.parametrize("kept", [slice(2, None), slice(None, 3)])
def test_a_mask_that_the_losses_make_is_none(kept: slice) -> None:
    """The hardest targets alone, or the easiest: which these are is known once all logits are."""

    def loss(logits: Any, labels: Any) -> Any:
        each = functional.cross_entropy(logits, labels, reduction="none")
        mask = torch.zeros(ROWS)
        mask[each.detach().argsort(descending=True)[kept]] = 1.0
        return (each * mask).sum()

    told, _ = observed(loss, LABELS.clamp(min=0) + torch.arange(ROWS) % 2)
    assert told == ()


def test_a_weight_of_all_targets_is_no_mask() -> None:
    told, _ = observed(lambda x, y: functional.cross_entropy(x, y, reduction="none").mean() * 0.0, LABELS.clamp(min=0))
    assert told == ()


def test_rows_that_were_selected_before_the_product_are_no_ignored_ones() -> None:
    told, _ = observed(lambda x, y: functional.cross_entropy(x[y != -100], y[y != -100]))
    assert told is None or told == ()


def test_logits_of_a_convolution_are_not_told() -> None:
    """Pixels cannot be selected before a convolution."""
    counts, layer = TargetCounts(), nn.Conv2d(3, CLASSES, 3, padding=1)
    labels = torch.full((1, 4, 4), 255)
    labels[0, 0] = 1
    for recorded in (False, True):
        root = functional.cross_entropy(layer(torch.ones(1, 3, 4, 4)), labels, ignore_index=255)
        counts.begins(nodes_behind((root,)) or (), recorded)
    assert counts.ignored() is None


def test_a_recording_alone_or_none_tells_nothing() -> None:
    """Counting is work that a recorded step must not have."""
    assert observed(functional.cross_entropy, passes=(True,))[0] is None
    assert observed(functional.cross_entropy, passes=(False,))[0] is None


def test_targets_behind_hooks_of_the_program_are_not_unpacked() -> None:
    unpacked: list[Any] = []

    def unpack(kept: Any) -> Any:
        unpacked.append(kept)
        return kept

    def loss(logits: Any, labels: Any) -> Any:
        with torch.autograd.graph.saved_tensors_hooks(lambda x: x, unpack):
            return functional.cross_entropy(logits, labels)

    counts, head = TargetCounts(), nn.Linear(HIDDEN, CLASSES)
    for recorded in (False, True):
        counts.begins(nodes_behind((loss(head(torch.ones(ROWS, HIDDEN)), LABELS),)) or (), recorded)
    assert counts.ignored() is None
    assert unpacked == []


def test_counting_does_not_wait_for_a_device() -> None:
    """It happens in steps whose times are those of the run: the number is read when the recording is over."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(str(func))
            return func(*args, **(kwargs or {}))

    called: list[str] = []
    counts, head = TargetCounts(), nn.Linear(HIDDEN, CLASSES)
    for recorded in (False, True):
        root = functional.cross_entropy(head(torch.ones(ROWS, HIDDEN)), LABELS)
        with Operators():  # type: ignore[no-untyped-call]
            counts.begins(nodes_behind((root,)) or (), recorded)
    assert called == ["aten.eq.Scalar", "aten.sum.default"]
    assert only(counts.ignored()).ignored == 5


def test_many_micro_batches_are_counted_up_to_a_bound() -> None:
    assert only(observed(functional.cross_entropy, passes=(*[False] * 300, True))[0]).losses == 256


def test_the_losses_of_a_pass_are_told_apart() -> None:
    def loss(logits: Any, labels: Any) -> Any:
        return functional.cross_entropy(logits, labels) + functional.cross_entropy(logits[:4], labels[:4].clamp(min=0))

    told, _ = observed(loss)
    assert only(told).targets == 20


def test_targets_and_gradients_stay_as_they_are() -> None:
    head, labels = nn.Linear(HIDDEN, CLASSES), LABELS.clone()
    version = labels._version
    root = functional.cross_entropy(head(torch.ones(ROWS, HIDDEN)), labels)
    plain = torch.autograd.grad(root, head.weight, retain_graph=True)[0]
    TargetCounts().begins(nodes_behind((root,)) or (), recorded=False)
    root.backward()
    assert torch.equal(head.weight.grad, plain)
    assert (labels._version, labels.tolist()) == (version, LABELS.tolist())
