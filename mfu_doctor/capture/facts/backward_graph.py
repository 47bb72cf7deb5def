"""The graph that a backward pass is about to run, as plain numbers: nodes, edges, and the parameters that it gives gradients.

Only public attributes of its nodes are read, and no saved tensor, since that could run the program's own hooks (checkpointing).
The nodes are held while they are read, nothing afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

MOST_NODES = 20_000  # of one graph: 2 us each, in a step whose time is not used

_PARAMETER = "AccumulateGrad"


class Leaf(Struct, frozen=True):
    """A tensor that gets a gradient.

    Attributes:
        number: tells it from others as long as it lives.
        elements: its size.
        grad_version: how often its present gradient has been written; None if it has none.
        watched: whether somebody other than an optimizer may look at the gradient: it has hooks, or is no parameter.
    """

    number: int
    elements: int
    grad_version: int | None
    watched: bool


class BackwardGraph(Struct, frozen=True):
    """One graph; a node is its index in these tuples.

    Attributes:
        sequence: autograd's number of each node, as a trace has it; -1 for a leaf.
        edges: where each node hands its gradients: (position among its inputs, node).
        leaves: the leaves by node.
        opaque: nodes in Python, whose backward may do more than hand on gradients.
    """

    sequence: tuple[int, ...]
    edges: tuple[tuple[tuple[int, int], ...], ...]
    leaves: dict[int, Leaf]
    opaque: frozenset[int]

    def leading_to(self, wanted: Iterable[int]) -> set[int]:
        """These nodes, and all from which a gradient reaches one of them."""
        makers = self._makers()
        found = set(wanted)
        left = list(found)
        while left:
            new = [maker for maker in makers[left.pop()] if maker not in found]
            found.update(new)
            left += new
        return found

    def depths(self) -> list[int]:
        """The longest way from each node to one that hands its gradients to none, in nodes."""
        makers, open_edges, depth = self._makers(), list(map(len, self.edges)), [0] * len(self.edges)
        done = [node for node, count in enumerate(open_edges) if not count]
        for node in done:  # grows
            for maker in makers[node]:
                depth[maker] = max(depth[maker], depth[node] + 1)
                open_edges[maker] -= 1
                if not open_edges[maker]:
                    done.append(maker)
        return depth

    def _makers(self) -> list[list[int]]:
        """For each node those that hand it a gradient, once for each edge."""
        makers: list[list[int]] = [[] for _ in self.edges]
        for node, edges in enumerate(self.edges):
            for _, child in edges:
                makers[child].append(node)
        return makers


def nodes_behind(roots: Iterable[Any]) -> list[Any] | None:
    """The nodes behind these tensors, each once, those of the tensors first; None if they are too many to look at.

    A root is what `backward` takes: a tensor, or an edge of the graph that stands for one that need not exist any more.
    """
    nodes = list({id(node): node for root in roots if (node := _node_of(root)) is not None}.values())
    known = {id(node) for node in nodes}
    for node in nodes:  # grows
        new = {id(child): child for child, _ in node.next_functions if child is not None and id(child) not in known}
        known |= new.keys()
        nodes += new.values()
        if len(nodes) > MOST_NODES:
            return None
    return nodes


def _node_of(root: Any) -> Any:
    from torch import Tensor

    return root.grad_fn if isinstance(root, Tensor) else root.node


def read_graph(roots: Iterable[Any]) -> BackwardGraph | None:
    """The graph behind these tensors; None if it is too large to look at."""
    from torch.autograd.function import BackwardCFunction

    nodes = nodes_behind(roots)
    if nodes is None:
        return None
    index = {id(node): at for at, node in enumerate(nodes)}
    edges = [
        tuple(
            (position, index[id(child)]) for position, (child, _) in enumerate(node.next_functions) if child is not None
        )
        for node in nodes
    ]
    leaves = {at: _leaf(node.variable) for at, node in enumerate(nodes) if type(node).__name__ == _PARAMETER}
    return BackwardGraph(
        tuple(-1 if at in leaves else int(node._sequence_nr()) for at, node in enumerate(nodes)),  # noqa: SLF001
        tuple(edges),
        leaves,
        frozenset(at for at, node in enumerate(nodes) if isinstance(node, BackwardCFunction)),
    )


def _leaf(variable: Any) -> Leaf:
    from torch.nn import Parameter

    gradient = variable.grad
    hooks = (getattr(variable, name, None) for name in ("_backward_hooks", "_post_accumulate_grad_hooks"))
    return Leaf(
        id(variable),
        int(variable.numel()),
        None if gradient is None else int(gradient._version),  # noqa: SLF001 - no public name exists
        any(hooks) or not isinstance(variable, Parameter),
    )
