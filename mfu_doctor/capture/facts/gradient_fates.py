"""What becomes of the gradients of a backward pass: an optimizer uses them, or nobody does.

A gradient is used if an optimizer with its parameter steps before it is reset. It is thrown away if the next pass finds it reset
(`zero_grad`), or if the pass adds it to one that its optimizer has already used: a program resets such a sum before it uses it.
Where no optimizer has stepped since, the program has taken it before (gradients of several losses that it combines).
It is for nobody if no optimizer of the process has the parameter. Only addresses and counts are kept, never a tensor.

A pass none of whose gradients an optimizer uses is not judged: the program uses them itself (its own update rule, gradients of
several losses that it combines, an estimate of their size), or keeps other copies of its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from mfu_doctor.capture.facts.backward_graph import MOST_NODES, BackwardGraph, Leaf, read_graph
from mfu_doctor.capture.facts.process_objects import modules_of, optimizer_parameters
from mfu_doctor.facts import GraphDepths
from mfu_doctor.facts.wasted_work import UnusedGradients

# Number of a node and of the first one of its pass, bits of its inputs whose gradient nobody uses, and of the others.
_Node: TypeAlias = tuple[int, int, int, int]

_LEAF = -1  # the number of a leaf in a graph

# Numbers that are kept of all passes, some 60 bytes each: sixty micro-batches of a large model, or thousands of a small one.
MOST_KEPT = 1_000_000


class _Pass(Struct):
    """One backward pass: its parameters, and which of their gradients were thrown away."""

    parameters: dict[int, int]  # elements by address
    graph: BackwardGraph | None  # None: nothing was recorded meanwhile
    steps: int  # optimizer steps before it
    thrown: set[int] = field(default_factory=set)


class GradientFates(Struct):
    """Follows the gradients over a few steps whose times are not used.

    Attributes:
        gave_up: why the passes were not followed to their end.
    """

    gave_up: str | None = None
    _passes: list[_Pass] = field(default_factory=list)
    _waiting: dict[int, list[_Pass]] = field(default_factory=dict)  # passes whose gradient is in .grad, by parameter
    _steps: int = 0  # of all optimizers
    _spent: dict[int, int | None] = field(default_factory=dict)  # version of a gradient that its optimizer has used
    _owned: set[int] | None = None  # parameters that an optimizer has
    _kept: int = 0

    def begins(self, roots: Sequence[Any], recorded: bool) -> None:
        """A pass begins that gives a gradient to all that it reaches from these tensors, in a step that is recorded or not."""
        if self.gave_up is not None:
            return
        if self._owned is None and not recorded:  # looking at all objects would fill a recording
            self._owned = optimizer_parameters()
        graph = read_graph(roots)
        if graph is None:
            self._give_up(recorded, f"a backward pass runs more than {MOST_NODES} nodes")
            return
        leaves = [leaf for leaf in graph.leaves.values() if not leaf.watched]
        this = self._keep({leaf.number: leaf.elements for leaf in leaves}, graph if recorded else None)
        if self._kept > MOST_KEPT:
            self._give_up(True, f"only the first {len(self._passes) - 1} backward passes were kept")
            return
        for leaf in leaves:
            self._written(leaf, this)

    def _keep(self, parameters: dict[int, int], graph: BackwardGraph | None) -> _Pass:
        """Keep a pass; micro-batches run equal ones, and what is equal is kept once."""
        former = self._passes[-1] if self._passes else None
        if former is not None and former.parameters == parameters:
            parameters = former.parameters
        else:
            self._kept += len(parameters)
        like = next((one.graph for one in reversed(self._passes) if one.graph is not None), None)
        if graph is not None and like is not None and graph.edges == like.edges:
            graph = replace(graph, edges=like.edges)
        elif graph is not None:
            self._kept += sum(map(len, graph.edges))
        self._kept += len(parameters) + (0 if graph is None else len(graph.sequence) + len(graph.leaves))
        this = _Pass(parameters, graph, self._steps)
        self._passes.append(this)
        return this

    def _give_up(self, matters: bool, why: str) -> None:
        if matters:
            self.gave_up = f"which gradients are used was not followed: {why}"
            for kept in (self._passes, self._waiting, self._spent):
                kept.clear()

    def _written(self, leaf: Leaf, this: _Pass) -> None:
        """A pass is about to write the gradient of a parameter."""
        number, version = leaf.number, leaf.grad_version
        if version is not None and number in self._spent and version == self._spent[number]:
            this.thrown.add(number)
            return
        reset = self._waiting.pop(number, []) if version is None else []
        for former in reset:
            former.thrown |= {number} if former.steps < self._steps else set()
        self._waiting.setdefault(number, []).append(this)
        self._spent.pop(number, None)

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has used what is in .grad."""
        self._steps += 1
        if self.gave_up is not None:
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                self._spent[id(parameter)] = None if gradient is None else gradient._version  # noqa: SLF001
                self._waiting.pop(id(parameter), None)
                if self._owned is not None:
                    self._owned.add(id(parameter))

    def unused(self) -> tuple[UnusedGradients, ...] | None:
        """Gradients of the recorded passes that nobody uses: of no optimizer, and of passes that throw away the same ones.

        None if the recorded passes were not all read.
        """
        if self._owned is None or self.gave_up is not None or not any(one.graph for one in self._passes):
            return None
        nodes: dict[frozenset[int], set[_Node]] = {}
        frozen: set[_Node] = set()
        sizes: dict[int, int] = {}
        for one in self._judged():
            sizes |= one.parameters
            without = one.parameters.keys() - self._owned
            mine = _needless(one.graph, without)
            frozen |= mine
            thrown = frozenset(one.thrown - without)
            nodes.setdefault(thrown, set()).update(_needless(one.graph, without | thrown) - mine)
        groups = [("frozen", sizes.keys() - self._owned, frozen), *(("thrown", k, found) for k, found in nodes.items())]
        return tuple(_told(fate, {n: sizes[n] for n in of}, found) for fate, of, found in groups if found)

    def depths(self) -> GraphDepths | None:
        """How deep the nodes of the recorded passes lie; None if they were not all read."""
        graphs = [one.graph for one in self._passes if one.graph is not None]
        if self.gave_up is not None or not graphs:
            return None
        known: dict[int, tuple[int, int]] = {}
        for graph in graphs:
            known |= zip(graph.sequence, zip(graph.depths(), map(len, graph.edges), strict=True), strict=True)
        known.pop(_LEAF, None)
        return GraphDepths(
            sequence=tuple(known),
            depth=tuple(depth for depth, _ in known.values()),
            inputs=tuple(inputs for _, inputs in known.values()),
        )

    def _judged(self) -> list[_Pass]:
        """Passes of which an optimizer uses a gradient."""
        owned = self._owned or set()
        return [one for one in self._passes if (owned & one.parameters.keys()) - one.thrown]


def _told(fate: str, elements: dict[int, int], nodes: set[_Node]) -> UnusedGradients:
    sequence, root, unused, needed = zip(*sorted(nodes), strict=True)
    return UnusedGradients(
        fate=fate,
        parameters=len(elements),
        elements=sum(elements.values()),
        modules=modules_of(set(elements)),
        sequence=sequence,
        root=root,
        unused=unused,
        needed=needed,
    )


def _needless(graph: BackwardGraph | None, unused: Set[int]) -> set[_Node]:
    """Nodes that compute a gradient for these parameters alone."""
    if graph is None or not unused:
        return set()
    idle = {node for node, leaf in graph.leaves.items() if leaf.number in unused and not leaf.watched}
    needed = graph.leading_to((graph.leaves.keys() - idle) | graph.opaque)
    found, root = set(), max(graph.sequence)  # the engine runs the latest node first
    for node in graph.leading_to(idle) - idle - graph.opaque:
        bits = [(1 << position, child in needed) for position, child in graph.edges[node]]
        own = sum(bit for bit, is_needed in bits if not is_needed)
        if own:
            found.add((graph.sequence[node], root, own, sum(bit for bit, is_needed in bits if is_needed)))
    return found
