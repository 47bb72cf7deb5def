"""The result of an exact count of one step, and how it is summed over the calls.

It is separate from the counter because it needs no torch: reading a count does not import torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct, field

from mfu_doctor.flops.op_flops import OpFlops

FORWARD, BACKWARD, RECOMPUTE = "forward", "backward", "recompute"


class CallKind(Struct, frozen=True):
    """Calls that are added up: the innermost module, the phase, the dtype of the factors and the operator."""

    module: str
    phase: str
    dtype: str
    op: str


class Sums(Struct, frozen=True):
    """FLOPs of several calls (see `OpFlops`)."""

    model: int = 0
    causal: int = 0
    executed: int = 0

    def plus(self, call: OpFlops) -> Sums:
        """One call more."""
        return Sums(self.model + call.model, self.causal + call.causal, self.executed + call.executed)


class FlopReport(Struct, frozen=True, kw_only=True):
    """FLOPs of one step; one multiply-accumulate is two FLOP.

    Attributes:
        model: what the mathematics of forward and backward needs, attention over the full square (the numerator of MFU).
        causal: `model` without masked attention pairs.
        executed: what the kernels did: recomputation and the attention backward's second product included (HFU).
        forward: part of `model` in the forward pass.
        backward: part of `model` in the backward pass.
        recompute: executed again in the backward pass (activation checkpointing).
        by_module: `model` by the innermost module that was running; "Global" if none was.
        by_dtype: `model` by dtype of the operands.
        by_op: `model` by operator.
        unknown: calls of operators whose FLOPs are not known, by name; the counts above are lower bounds if not empty.
        notes: what this count could not tell.
    """

    model: int
    causal: int
    executed: int
    forward: int
    backward: int
    recompute: int
    by_module: dict[str, int] = field(default_factory=dict)
    by_dtype: dict[str, int] = field(default_factory=dict)
    by_op: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def add_up(counts: Mapping[CallKind, Sums], unknown: Mapping[str, int], notes: tuple[str, ...]) -> FlopReport:
    """Sums over all calls.

    Args:
        counts: FLOPs by kind of call.
        unknown: calls without a formula, by operator.
        notes: what the counter could not tell.
    """
    phases: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    ops: Counter[str] = Counter()
    counted = {kind: flops for kind, flops in counts.items() if kind.phase != RECOMPUTE}
    for kind, flops in counted.items():
        for part, key in ((phases, kind.phase), (modules, kind.module), (dtypes, kind.dtype), (ops, kind.op)):
            part[key] += flops.model
    return FlopReport(
        model=phases.total(),
        causal=sum(flops.causal for flops in counted.values()),
        executed=sum(flops.executed for flops in counts.values()),
        forward=phases[FORWARD],
        backward=phases[BACKWARD],
        recompute=sum(flops.executed for kind, flops in counts.items() if kind.phase == RECOMPUTE),
        by_module=dict(modules.most_common()),
        by_dtype=dict(dtypes.most_common()),
        by_op=dict(ops.most_common()),
        unknown=dict(Counter(unknown).most_common()),
        notes=notes,
    )
