"""What becomes of gradients: the graph of each pass is read, and only what no optimizer uses is called unused."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.capture.facts.gradient_fates import GradientFates
from mfu_doctor.facts.wasted_work import UnusedGradients
from tests.capture.programs import PRELUDE, TRACE, read
from tests.capture.zygote import Zygote

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn

X = torch.ones(4, 3)


class Watched:
    """Three steps of a program, of which the second is recorded: what GradientFates sees of them."""

    def __init__(self) -> None:
        self.fates, self.recorded = GradientFates(), False

    def backward(self, loss: Any, **options: Any) -> None:
        self.fates.begins((loss,), self.recorded)
        loss.backward(**options)

    def step(self, optimizer: Any) -> None:
        optimizer.step()
        self.fates.stepped(optimizer)

    def run(self, step: Callable[[], None]) -> tuple[UnusedGradients, ...]:
        for self.recorded in (False, True, False):
            step()
        unused = self.fates.unused()
        assert unused is not None
        return unused


def network() -> Any:
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))


def sgd(*modules: Any) -> Any:
    return torch.optim.SGD([p for module in modules for p in module.parameters()], lr=0.01)


def names(loss: Any) -> dict[int, str]:
    """Names of the nodes behind a loss by their number."""
    found, left = {}, [loss.grad_fn]
    while left:
        node = left.pop()
        found[node._sequence_nr()] = node.name()
        left += [child for child, _ in node.next_functions if child is not None]
    return found


def told(group: UnusedGradients, known: dict[int, str]) -> dict[str, list[tuple[int, int]]]:
    """Inputs of the nodes of a group, unused and needed, by the name of the node."""
    out: dict[str, list[tuple[int, int]]] = {}
    for number, *inputs in zip(group.sequence, group.unused, group.needed, strict=True):
        out.setdefault(known[number], []).append((inputs[0], inputs[1]))
    return out


def test_both_branches_of_a_frozen_network_are_found_and_the_way_to_the_input_is_not() -> None:
    """A perceptual loss: of the prediction's branch the weights are unused (bias 1, weight 4), of the reference's all."""
    watched, model, features = Watched(), network(), network()
    optimizer, known = sgd(model), {}

    def step() -> None:
        loss = (features(model(X)) - features(X)).square().mean()
        optimizer.zero_grad()
        known.update(names(loss))
        watched.backward(loss)
        watched.step(optimizer)

    (group,) = watched.run(step)
    assert (group.fate, group.parameters, group.elements) == ("frozen", 4, 24)
    nodes = told(group, known)
    assert sorted(nodes["AddmmBackward0"]) == [(1 | 4, 0), (1 | 4, 2), (1 | 4, 2), (1 | 2 | 4, 0)]


def test_the_depth_of_a_node_is_its_longest_way_to_a_leaf() -> None:
    """Of a chain each round lies deeper; of rounds beside each other only the sum of their results does."""
    watched, weight = Watched(), nn.Parameter(torch.ones(3))
    known: dict[int, str] = {}

    def step() -> None:
        state = weight
        for _ in range(3):
            state = torch.tanh(state * 2)
        loss = state.sum() + torch.sin(weight).sum() + torch.sin(weight * 3).sum()
        known.update(names(loss))
        watched.backward(loss)

    for watched.recorded in (False, True, False):
        step()
    deep = watched.fates.depths()
    assert deep is not None
    depths: dict[str, list[int]] = {}
    for number, depth in zip(deep.sequence, deep.depth, strict=True):
        depths.setdefault(known[number], []).append(depth)
    assert sorted(depths["TanhBackward0"]) == [2, 4, 6]
    assert sorted(depths["SinBackward0"]) == [1, 2]
    inputs = {known[number]: count for number, count in zip(deep.sequence, deep.inputs, strict=True)}
    assert (inputs["AddBackward0"], inputs["MulBackward0"]) == (2, 1)


def test_of_a_graph_that_is_retained_the_pass_is_told() -> None:
    """The generator's nodes run in both passes: for the critic's step for nothing, in its own not."""
    watched, generator, critic = Watched(), network(), network()
    first, second, roots = sgd(critic), sgd(generator), list[list[int]]()

    def step() -> None:
        fake = generator(X)
        first.zero_grad()
        losses = [critic(fake).mean()]
        watched.backward(losses[0], retain_graph=True)
        watched.step(first)
        second.zero_grad()
        losses.append(critic(fake).mean())
        watched.backward(losses[1])
        watched.step(second)
        roots.append([loss.grad_fn._sequence_nr() for loss in losses])

    into_generator, into_critic = watched.run(step)
    assert [set(group.root) for group in (into_generator, into_critic)] == [{root} for root in roots[1]]


def gan(watched: Watched, *, detached: bool, frozen: bool = False) -> tuple[UnusedGradients, ...]:
    generator, critic = network(), network()
    first, second = sgd(critic), sgd(generator)

    def step() -> None:
        fake = generator(X)
        first.zero_grad()
        watched.backward((critic(fake.detach() if detached else fake) - critic(X)).mean())
        watched.step(first)
        second.zero_grad()
        critic.requires_grad_(not frozen)
        watched.backward(critic(generator(X)).mean())
        critic.requires_grad_(True)
        watched.step(second)

    return watched.run(step)


def test_a_gan_throws_away_what_flows_into_the_other_network() -> None:
    """Without detach all four gradients of the generator, and always those of the critic in the generator's pass."""
    assert [group.parameters for group in gan(Watched(), detached=False)] == [4, 4]
    (through,) = gan(Watched(), detached=True)
    assert (through.fate, through.parameters) == ("thrown", 4)
    assert gan(Watched(), detached=True, frozen=True) == ()


def test_gradients_reset_right_after_their_step_are_found_by_the_next_pass() -> None:
    """The second pass gives new gradients to the first network, whose own pass in the next step finds them reset."""
    watched, one, two = Watched(), network(), network()
    first, second = sgd(one), sgd(two)

    def step() -> None:
        watched.backward(one(X).mean())
        watched.step(first)
        first.zero_grad()
        watched.backward(two(one(X)).mean())
        watched.step(second)
        second.zero_grad()
        first.zero_grad()

    (group,) = watched.run(step)
    assert (group.fate, group.parameters) == ("thrown", 4)


def accumulating(watched: Watched) -> Callable[[], None]:
    model = network()
    optimizer = sgd(model)

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(3):
            watched.backward(model(X).mean())
        watched.step(optimizer)

    return step


def shared_weights(watched: Watched) -> Callable[[], None]:
    model = network()
    optimizer = sgd(model)

    def step() -> None:
        optimizer.zero_grad()
        watched.backward((model(X) - model(2 * X)).square().mean())
        watched.step(optimizer)

    return step


def zeroed_in_place(watched: Watched) -> Callable[[], None]:
    model = network()
    optimizer = sgd(model)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        watched.backward(model(X).mean())
        watched.step(optimizer)

    return step


def sharpness_aware(watched: Watched) -> Callable[[], None]:
    """The gradients of the first pass only say where the second one is taken."""
    model = network()
    optimizer = sgd(model)

    def step() -> None:
        optimizer.zero_grad()
        watched.backward(model(X).mean())
        moves = [p.grad.clone() for p in model.parameters()]
        optimizer.zero_grad()
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p.add_(move)
        watched.backward(model(X).mean())
        watched.step(optimizer)

    return step


def combined(watched: Watched) -> Callable[[], None]:
    """Gradients of two losses are taken one after the other, and their sum is used; each loss has a head of its own."""
    model, heads = network(), (network(), network())
    optimizer = sgd(model, *heads)

    def step() -> None:
        taken = []
        for head in heads:
            optimizer.zero_grad()
            watched.backward(head(model(X)).mean())
            taken.append([(p, p.grad) for module in (model, head) for p in module.parameters()])
        for p, gradient in [pair for pairs in taken for pair in pairs]:
            p.grad = gradient
        watched.step(optimizer)

    return step


def one_loss_two_optimizers(watched: Watched) -> Callable[[], None]:
    """The second optimizer uses the gradients of both passes, and the first one steps in between."""
    one, two = network(), network()
    first, second = sgd(one), sgd(two)

    def step() -> None:
        first.zero_grad()
        second.zero_grad()
        watched.backward(two(one(X)).mean())
        watched.step(first)
        watched.backward(two(X).mean())
        watched.step(second)

    return step


def by_hand(watched: Watched) -> Callable[[], None]:
    model = network()

    def step() -> None:
        watched.backward(model(X).mean())
        with torch.no_grad():
            for p in model.parameters():
                p.sub_(0.01 * p.grad)
                p.grad = None

    return step


def watched_by_a_hook(watched: Watched) -> Callable[[], None]:
    """The program looks at the gradients of a network that is not trained."""
    model, other = network(), network()
    for parameter in other.parameters():
        parameter.register_hook(lambda gradient: gradient)
    optimizer = sgd(model)

    def step() -> None:
        optimizer.zero_grad()
        watched.backward(other(model(X)).mean())
        watched.step(optimizer)

    return step


HEALTHY = (
    accumulating,
    shared_weights,
    zeroed_in_place,
    sharpness_aware,
    combined,
    one_loss_two_optimizers,
    by_hand,
    watched_by_a_hook,
)


@pytest.mark.parametrize("program", HEALTHY, ids=lambda program: str(program.__name__))
def test_gradients_that_somebody_uses_are_not_called_unused(program: Callable[[Watched], Callable[[], None]]) -> None:
    watched = Watched()
    assert watched.run(program(watched)) == ()


def test_nothing_of_the_program_is_kept_alive() -> None:
    watched = Watched()
    alive: list[weakref.ref[object]] = []

    def program() -> None:
        model, frozen = network(), network()
        optimizer = sgd(model)
        alive.extend(weakref.ref(parameter) for module in (model, frozen) for parameter in module.parameters())

        def step() -> None:
            optimizer.zero_grad()
            watched.backward(frozen(model(X)).mean())
            watched.step(optimizer)

        assert watched.run(step)

    program()
    gc.collect()
    assert len(alive) == 8
    assert not any(reference() is not None for reference in alive)


FROZEN = """
features = nn.Linear(4, 4)
with block() as doctor:
    for x, y in loader(30):
        out = model(x)
        loss = nn.functional.cross_entropy(out, y) + (features(out) - features(x[:, :4])).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
"""


def test_a_recording_tells_the_unused_gradients_of_its_steps(zygote: Zygote, tmp_path: Path) -> None:
    """Its nodes are those that the recorded trace has."""
    zygote.run(PRELUDE + FROZEN, tmp_path)
    facts = read(tmp_path / TRACE).facts
    assert facts.unused_gradients is not None
    (group,) = facts.unused_gradients
    assert (group.fate, group.parameters, group.elements) == ("frozen", 2, 20)
    assert not [note for note in facts.notes if "graph" in note or "gradients" in note]


def test_a_pass_from_an_edge_of_a_graph_is_followed() -> None:
    """`backward` takes an edge too, so that the tensor it stands for need not live."""
    edges = pytest.importorskip("torch.autograd.graph", reason="no edges before torch 2.4")
    watched, model, features = Watched(), network(), network()
    optimizer, known = sgd(model), {}

    def step() -> None:
        loss = (features(model(X)) - features(X)).square().mean()
        optimizer.zero_grad()
        known.update(names(loss))
        root = edges.get_gradient_edge(loss)
        watched.fates.begins((root,), watched.recorded)
        torch.autograd.backward(root, torch.ones(()))
        watched.step(optimizer)

    (frozen,) = watched.run(step)
    assert frozen.fate == "frozen"
    assert "AddmmBackward0" in told(frozen, known)


def micro_batches(watched: Watched, passes: int) -> None:
    """A step of so many micro-batches."""
    model = network()
    optimizer = sgd(model)
    for watched.recorded in (False, True):
        for _ in range(passes):
            watched.backward(model(X).sum())
        watched.step(optimizer)


def test_equal_graphs_of_micro_batches_are_kept_once() -> None:
    watched = Watched()
    micro_batches(watched, 50)
    assert watched.fates.unused() == ()
    edges = {id(one.graph.edges) for one in watched.fates._passes if one.graph is not None}
    assert len(edges) == 1
    assert len({id(one.parameters) for one in watched.fates._passes}) == 1


def test_more_passes_than_are_kept_are_said_and_nothing_of_them_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfu_doctor.capture.facts.gradient_fates.MOST_KEPT", 200)
    watched = Watched()
    micro_batches(watched, 100)
    fates = watched.fates
    assert fates.unused() is None
    assert fates.gave_up is not None
    assert re.fullmatch(
        r"which gradients are used was not followed: only the first \d+ backward passes were kept", fates.gave_up
    )
    assert not fates._passes
    assert not fates._waiting
    assert not fates._spent


def test_a_graph_that_is_too_large_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfu_doctor.capture.facts.backward_graph.MOST_NODES", 5)
    watched = Watched()
    micro_batches(watched, 2)
    assert watched.fates.unused() is None
    assert "a backward pass runs more than 20000 nodes" in str(watched.fates.gave_up)
