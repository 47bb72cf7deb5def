"""A Python loop runs small operators for one element, sample, window, graph or time step after another.

What it measures
    A sequence of up to 64 operators that repeats at least ten times within one step on the main thread, with its backward: in a
    row, or at least four times in a row again and again (a model that is called for each environment at each time); few rounds
    with layers count only if the layers get a batch of one. It
    indexes a tensor, goes through its pieces, or joins the results of its rounds (stack, cat). Rounds may differ in size (masks,
    graphs, segments). Backward tells what it is: if the weights get their gradients round by round, the rounds are layers of a
    network, and the rule is silent, unless shapes prove that they are networks beside each other (one for each column, an
    ensemble): equal chains of operators, each from a part of its own or to a result of another size, all results collected. If
    the first round's backward does less than the others', each round continues from the last one. Where profile() read the graph
    of autograd, that tells instead: in a chain each round lies deeper. Writing the results into one tensor (out[i] = ...) does
    not count: no round needs what others wrote. What continues and has no sequence as its input (an integrator) is no recurrent
    layer, and the rule is silent.
    Rounds that take their part by a mask and go over the whole tensor count too, and rounds that call backward for their part of
    a batch that is there as a whole: if every round makes new gradients, and none adds to another's, they are networks.

Why it costs
    A small operator takes what dispatching it takes, a few microseconds on the CPU, in forward and again in backward; on a GPU it
    takes a launch. One operator for all rounds takes that once. And if x needs a gradient, each x[i] writes a tensor as large as
    x in backward.

How the gain is predicted
    One round's dispatch remains, and the computing and the memory traffic of all rounds. Python between operators remains for one
    round. What takes its part by an index or a mask goes over the whole tensor in each round, and once in one call. If each round
    calls backward, all weights are read and all gradients written in each round, and once in one pass.
    Low: 25 % of the time of the loop remains, or the work at half of the rates of the device if that is more.
    Mid: the work at 70 % of the rates. 10 % of work whose size is not known.
    High: the work at the full rates.
    A loop of cells (LSTM, GRU, RNN) becomes one recurrent layer: its inputs and its weights' gradients become one matmul each,
    but the matmuls of the state still run one after another. They keep their time; at the high end they reach the peak.
    Small networks become products of stacked weights. An optimizer that goes from tensor to tensor then has as many fewer of them
    (mid and high).
    The walk of autograd's engine over the graph, and freeing the graph, shrink with the number of nodes.
    A torch.stack or torch.cat after the loop is part of it, and so is freeing the tensors that it joins: the gap after it counts,
    but not longer than all gaps inside the loop together.

How to fix
    Call the operators once for all rounds: stack the inputs and call the model or the loss on the batch, index with a tensor,
    use Tensor.unfold or F.unfold for windows, or torch.vmap. Call backward once for the batch; for the gradient of each sample
    use torch.func.vmap(torch.func.grad(...)); where each round goes on with its own gradient (MAML), torch.func.vmap of the
    round. For graphs and segments of different sizes, use index_add_ or scatter_reduce_ with the number of the group,
    torch.segment_reduce, or padding with a mask. For cells, call nn.LSTM, nn.GRU or nn.RNN on the whole sequence. For networks
    of their own weights, keep the weights of all as one tensor (torch.stack, once, or torch.func.stack_module_state), and
    multiply with torch.baddbmm, torch.einsum or torch.vmap.

When it is wrong
    A trace does not always show whether a round needs the result of the one before. If it does, and no layer computes it, only
    torch.compile helps. A decoder that feeds its own output back cannot be one call.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    https://docs.pytorch.org/docs/stable/generated/torch.vmap.html
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.backward import is_differentiated
from mfu_doctor.analysis.evidence.batched_loops import batched
from mfu_doctor.analysis.evidence.graphs import obstacle_to_compile
from mfu_doctor.analysis.evidence.loop_kinds import SmallOps, is_uneven, small_ops, time_of
from mfu_doctor.analysis.evidence.python_loops import Loop
from mfu_doctor.analysis.evidence.steady_steps import Steady, steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import union
from mfu_doctor.quantities import number
from mfu_doctor.result.findings import Ends, Evidence
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

# The call that does what a loop does, by the operators of the loop: the first that fits.
_CELLS = (
    (
        r"lstm",
        "self.rnn = nn.LSTM(input_size, hidden_size)  # one call on the whole sequence instead of a loop over LSTMCell",
    ),
    (
        r"gru",
        "self.rnn = nn.GRU(input_size, hidden_size)  # one call on the whole sequence instead of a loop over GRUCell",
    ),
    (
        r"rnn",
        "self.rnn = nn.RNN(input_size, hidden_size)  # one call on the whole sequence instead of a loop over RNNCell",
    ),
    (r"", "self.rnn = nn.LSTM(input_size, hidden_size)  # or nn.GRU, nn.RNN: one call on the whole sequence"),
)
_GROUPS = (
    "sums = x.new_zeros(groups, x.size(1)).index_add_(0, group_of_row, x)  # all groups; per row: sums[group_of_row]; "
    "for means divide by torch.bincount(group_of_row)[:, None]"
)
_PARTS = (
    (r"_loss|log_softmax", "loss = criterion(outputs, targets)  # once on the whole batch instead of once per sample"),
    (r"split_with_sizes|::nonzero|masked_select|eq .*aten::index\b", _GROUPS),
    (
        r"aten::(slice|narrow)",
        "windows = x.unfold(dimension, size, step)  # all windows at once instead of a loop over slices",
    ),
)
_INDEXED = "y = x[indices]  # one indexing operation instead of a loop over x[i]"
_MAPPED = (
    "y = torch.vmap(f)(x)  # all rounds in one call; or compute on the whole of x: broadcast with x[:, None], "
    "and reduce along one dimension with dim=-1"
)
# By all that a round does beside taking its part: the first that fits.
_BY_ALL = {
    r"aten::is_nonzero": "x.any()  # or x.all(): Python's any() and all() read one element after another",
    r"aten::(lt|gt|is_nonzero)": "x.max()  # or x.min(): Python's max() and min() compare one element after another",
    r"aten::(item|to|_to_copy)": "values = x.tolist()  # all at once instead of one item() per element",
    r"aten::(copy_|clone|index_put_)": _INDEXED,
}
_TOTALS = {
    r"aten::add": "total = x.sum()  # one reduction (of rows x.sum(0)): Python's sum() adds one element after another",
    r"aten::add_?": "total = x[indices].sum(0)  # one reduction instead of total += x[i]",
}
_TAKES = re.compile(
    r"^aten::(select|unbind|index|index_select|gather|narrow|slice|detach|alias|_?(unsafe_)?view|reshape|squeeze|unsqueeze"
    r"|expand|t|transpose|permute)$"
)
_PARAMETRIZES = "torch/nn/utils/parametrize.py"
_CACHED = (
    "with torch.nn.utils.parametrize.cached():  # around the loop: the weight is then computed once, not in each round"
)
# What the cells of torch.nn are made of, written out: with other operators no layer of torch.nn computes the same.
_OF_GATES = re.compile(
    r"^aten::(\w+_cell|linear|addmm|mm|bmm|matmul|addcmul|(r?sub|add|mul|sigmoid|tanh|relu)_?|lerp|ones_like|neg|split\w*"
    r"|(unsafe_)?chunk|stack|cat|concat|dropout|feature_dropout|embedding|contiguous|clone|copy_|zeros\w*|new_zeros|to|item)$"
)
_SAME_WEIGHT = "each round computes the same weight anew"
_ENDS = {
    False: Ends(low="a quarter of the loop's time stays", high="one call reaches the full rates of the device"),
    True: Ends(low="a quarter of the loop's time stays", high="only one round's stays"),
}
_NO_LAYER = "xs = self.inp(xs)  # before the loop, for all rounds at once: what does not need the state"
_LAYERS = (
    "y = model(torch.stack(xs))  # one call on the whole batch instead of one per sample; else torch.vmap(model)(xs)"
)
_PADDED = "y = model(torch.nn.utils.rnn.pad_sequence(xs, batch_first=True))  # one padded batch with a mask; else nested tensors"
_WHOLE_BATCH = (
    'loss = criterion(model(xs), ys); loss.backward()  # once for the batch; reduction="sum" if losses were added'
)
_EACH_GRADIENT = (
    "grads = torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0, 0))(params, xs, ys)  # of all samples"
)
_EACH_ADAPTED = (
    "losses = torch.func.vmap(loss_of, in_dims=(None, 0, 0))(params, xs, ys)  # all rounds; loss_of takes its gradient by "
    "torch.func.grad, and goes on with it"
)
_STACKED = (
    "h = torch.baddbmm(b, h, w)  # all networks: w[n, in, out], b[n, 1, out] are parameters, h[n, batch, in]; "
    "or torch.func.stack_module_state(nets) and torch.vmap"
)
_CLIPS = re.compile(r"^aten::(linalg_vector_norm|norm|_foreach_norm|frobenius_norm|linalg_norm)$")
_SHOWN_NAMES = 4


@rule(
    "tensor-loop",
    "HO009",
    "Python loops of small operators",
    also=("for-loop-indexing", "small-operators", "cell-loop", "per-sample-loop"),
)
def tensor_loop(run: Run) -> Outcome:
    """Look for the same operators, repeated many times within a step."""
    steady = steady_of(run)
    loops = small_ops(run)
    inside = [found for found in loops if steady.host.contains(np.array([found.loop.start]))[0]]
    if not inside:
        return None
    spent = steady.host_ns(time_of(inside))
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    longest = max(inside, key=lambda found: found.inside.total_ns)
    loop = longest.loop
    fix = _fix(run, longest, uneven=_is_uneven(run, longest, inside))
    return Finding(
        summary=f"Loops of small operators take {steady.share(spent)} of the step on the CPU: one repeats "
        f"{_operators(loop)} {number(loop.rounds)} times",
        fix=fix,
        detail=_SAME_WEIGHT
        if fix == _CACHED
        else _question(longest, compiles=obstacle_to_compile(run) is None, adapts=fix == _EACH_ADAPTED),
        decides=_ENDS[fix == _CACHED],
        change=batched(run, loops),
        evidence=_evidence(inside, steady, spent),
        place=_place(run, [found.loop for found in inside if found.loop.names == loop.names]),
        effort="refactor",
        risk="none" if fix == _CACHED or (longest.kind == "parts" and fix != _GROUPS) else "rounding",  # another order
        confidence="hint" if longest.kind == "layers-per-part" or loop.backward else "modelled",
    )


def _place(run: Run, loops: list[Loop]) -> str | None:
    """The line that issues these loops: that of their first operator, else the one in which most of their time went by.

    Stacks may know the function of the operator alone: then it is the line that the function is at meanwhile.
    """
    where = union(np.array([loop.start for loop in loops]), np.array([loop.end for loop in loops]))
    first = run.places(np.array([loops[0].row]))[0]
    if first is not None:
        return run.user_code.line_in(first, where)
    spot = run.spent_at(where)
    return spot.place if spot else None


def _computes_weights(run: Run, loop: Loop) -> bool:
    """Whether most of its time goes by in parametrizations: each use of a weight computes it, and no round changes it."""
    lengths = run.trace.events.end[loop.rows] - run.trace.events.start[loop.rows]
    inside = run.user_code.called_from(loop.rows, _PARAMETRIZES)
    return bool(2 * lengths[inside].sum() > lengths.sum())


def _operators(loop: Loop) -> str:
    short = [name.removeprefix("aten::") for name in loop.names]
    return ", ".join(short[:_SHOWN_NAMES]) + (", ..." if len(short) > _SHOWN_NAMES else "")


def _is_uneven(run: Run, longest: SmallOps, inside: list[SmallOps]) -> bool:
    """Whether the rounds differ in size, by the loops like this one: not every step has its shapes recorded."""
    return any(is_uneven(run, found.loop) for found in inside if found.loop.names == longest.loop.names)


def _fix(run: Run, found: SmallOps, *, uneven: bool) -> str:
    if _computes_weights(run, found.loop):
        return _CACHED
    if found.kind == "layers-per-part":
        return _PADDED if uneven else _LAYERS
    if found.kind == "networks":
        return _STACKED
    if found.kind == "backward-per-part":
        if is_differentiated(run):  # rounds that go on with a gradient of their own: no one pass from a sum has them
            return _EACH_ADAPTED
        return _EACH_GRADIENT if any(_CLIPS.match(name) for name in found.loop.names) else _WHOLE_BATCH
    if found.loop.masks and "aten::is_nonzero" not in found.loop.names:  # max(x) compares too, and reads each answer
        return _GROUPS
    names = " ".join((found.loop.before, *found.loop.names))
    if found.kind == "parts" and uneven and not re.search(_PARTS[0][0], names):
        return _GROUPS
    if found.kind == "cells":
        known = all(_OF_GATES.match(name) or _TAKES.match(name) for name in found.loop.names)
        return next(fix for pattern, fix in _CELLS if re.search(pattern, names)) if known else _NO_LAYER
    return next((fix for pattern, fix in _PARTS if re.search(pattern, names)), None) or _by_what_is_left(found.loop)


def _by_what_is_left(loop: Loop) -> str:
    """The fix by what a round does beside taking its part; what is collected after the loop is no total."""
    left = [name for name in loop.names if not _TAKES.match(name)]
    if not left:
        return _INDEXED
    table = _BY_ALL if loop.join >= 0 else _BY_ALL | _TOTALS
    return next((fix for pattern, fix in table.items() if all(re.fullmatch(pattern, name) for name in left)), _MAPPED)


def _question(found: SmallOps, *, compiles: bool, adapts: bool) -> str:
    helps = "only torch.compile helps" if compiles else "nothing is advised"
    match found.kind:
        case "cells":
            return f"does a round use its own output as the next input? then it cannot be one layer, and {helps}"
        case "layers-per-part":
            return f"does a round need the result of the one before? the trace does not show it; then {helps}"
        case "backward-per-part" if adapts:
            return "each round takes a gradient of its own and goes on with it; no round needs the result of the one before"
        case "backward-per-part":
            unknown = "; if each has a network of its own, stack them: torch.func.stack_module_state(nets)"
            return (
                "each round calls backward; for the gradient of each sample: torch.func.vmap(torch.func.grad(loss_of))"
                + (unknown if found.weights is None else "")
            )
        case "networks":
            alone = "calls backward for them" if found.loop.backward else "uses no other's result"
            one = "one call and one backward" if found.loop.backward else "one call"
            return (
                f"each round has {number((found.weights or 0) / found.loop.rounds)} weights of its own and {alone}; "
                f"stacked, all are {one}, and fewer tensors for the optimizer"
            )
    return "one call for all rounds, if none of them needs the result of the one before"


def _evidence(inside: list[SmallOps], steady: Steady, spent: float) -> tuple[Evidence, ...]:
    operators = sum(len(found.loop.rows) for found in inside)
    return (
        shown("loops", steady.per_step(len(inside)), "per step"),
        shown("iterations of the longest loop", max(found.loop.rounds for found in inside), "count"),
        shown("operators in loops", steady.per_step(operators), "per step"),
        shown("CPU time", seconds(spent), "s"),
    )
