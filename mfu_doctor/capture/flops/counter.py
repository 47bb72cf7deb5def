"""Exact FLOPs of one real step: a dispatch mode sees every operator with its operands.

This count is exact: it guesses no shapes and uses no formula for an architecture. It runs the step once in eager mode (some tens
of microseconds more per operator), under a stance that keeps compiled code compiled afterwards.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from mfu_doctor.capture.flops.formula_lookup import CallFormula, formula_of, operator_name
from mfu_doctor.capture.flops.report import BACKWARD, FORWARD, RECOMPUTE, CallKind, FlopReport, Sums, add_up
from mfu_doctor.capture.flops.side_effect_free import forward_and_backward, left_as_found
from mfu_doctor.flops.attention import FLEXIBLE_ATTENTION
from mfu_doctor.flops.op_flops import OpFlops
from mfu_doctor.flops.table import OWN_NAMESPACES, UNCOUNTED

NO_MODULE = "Global"  # the module tracker's name for what runs outside every module

# The Python frame from which autograd's engine issues the operators of its own nodes.
_ENGINE = ("torch.autograd.graph", "torch.autograd")

# What lies between an operator and this file in Python: torch's own calls of a dispatch mode.
_DISPATCH = (__name__, "torch._ops", "torch._compile", "torch._dynamo.eval_frame", "torch.utils._python_dispatch")

# The module tracker's hooks are such hooks; a compiled module calling them once more changes no count.
_HOOKS_WARNING = r"Using `torch\.compile\(module\)` when there are global hooks"

_META_NOTE = "on the meta device attention runs as plain matmuls, so its masked part is counted too"
_META_ATTENTION = ("aten::bmm", "aten::baddbmm")  # what attention is made of there
_FLEX_NOTE = "flex_attention is counted without its mask, because the mask is only known at run time"
_PHASE_NOTE = "this PyTorch version cannot separate forward, backward and recomputation: they are one number"
_MODULE_NOTE = "no FLOPs per module: this PyTorch version has no module tracker"
_COMPILE_NOTE = "functions compiled by torch.compile can run eagerly after this count (torch 2.6 and newer keep them)"


def count_flops(step_or_model: Callable[..., Any], *args: Any, **kwargs: Any) -> FlopReport:
    """Count the FLOPs of one eager step.

    A function is called once, for real: what it changes (weights, optimizer state, random state) stays changed, as after any
    step. A module gets its forward pass on the arguments and, if gradients are enabled, the backward pass of the sum of
    its outputs; gradients, buffers and random state are then as they were, and gradients of the arguments are not touched.
    Tensors on the meta device work, so that a model need not fit anywhere to be counted.

    Args:
        step_or_model: the step, or a module.
        *args: its arguments.
        **kwargs: its keyword arguments.

    Returns:
        The count of that one call.
    """
    counter = FlopCounter()
    if isinstance(step_or_model, torch.nn.Module):
        with left_as_found(step_or_model), counter.counting():
            forward_and_backward(step_or_model, args, kwargs)
    else:
        with counter.counting():
            step_or_model(*args, **kwargs)
    return counter.report()


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operator dispatched while it is active, in any thread that autograd runs backward on."""

    supports_higher_order_operators = True  # else torch refuses to run flex_attention under this mode

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts: defaultdict[CallKind, Sums] = defaultdict(Sums)
        self._unknown: Counter[str] = Counter()
        self._notes: dict[str, None] = {}
        self._graph_task = getattr(torch._C, "_current_graph_task_id", None)  # noqa: SLF001 - nothing public tells
        self._formulas: dict[Any, CallFormula | None] = {}
        self._primitive: set[Any] = set()  # operators that are not made of others
        self._fake = _fake_tensor()
        self._modules = _module_tracker()
        if self._graph_task is None:
            self._notes[_PHASE_NOTE] = None
        if self._modules is None:
            self._notes[_MODULE_NOTE] = None

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let Dynamo work while this mode is active: flex_attention calls it even in eager mode."""
        return True

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what runs in the block. Not the mode's own `with`, which torch enters again for every composite operator."""
        with ExitStack() as stack:
            if hasattr(torch.compiler, "set_stance"):
                # An active dispatch mode would make Dynamo give compiled functions up for good.
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            else:
                self._notes[_COMPILE_NOTE] = None
            if self._modules is not None:
                stack.enter_context(self._modules)
                stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", message=_HOOKS_WARNING)
            stack.enter_context(self)
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and count it."""
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(is_traceable_wrapper_subclass(tensor) for tensor in tensors):
            return NotImplemented  # a distributed, nested or quantised tensor: what it is made of comes by on its own
        if func not in self._formulas:
            self._formulas[func] = formula_of(func)
        formula = self._formulas[func]
        if formula is None and func not in self._primitive:
            made = self._decomposed(func, args, kwargs)
            if made is not NotImplemented:
                return made
            self._primitive.add(func)
        out = func(*args, **kwargs)
        if any(isinstance(tensor, self._fake) for tensor in tensors):
            return out  # shape propagation multiplies nothing
        name = operator_name(func)
        dense = all(tensor.layout is torch.strided for tensor in tensors)  # other shapes do not tell what is multiplied
        flops = formula(args, kwargs, out) if formula is not None and dense else None
        if flops is not None:
            self._add(name, flops, tensors)
            self._notes |= dict.fromkeys(_notes_on(name, tensors))
        elif formula is not None or name in UNCOUNTED or name.partition("::")[0] not in OWN_NAMESPACES:
            self._unknown[name] += 1
        return out

    def _decomposed(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of an operator that is made of others, counting those: in inference mode such operators arrive."""
        if not hasattr(func, "decompose"):
            return NotImplemented
        with self:
            return func.decompose(*args, **kwargs)

    def _add(self, name: str, flops: OpFlops, tensors: list[torch.Tensor]) -> None:
        spelled = flops.type or next((str(tensor.dtype) for tensor in tensors), "unknown")
        kind = CallKind(self._module(), self._phase(), spelled.removeprefix("torch."), name)
        self._counts[kind] = self._counts[kind].plus(flops)

    def _phase(self) -> str:
        """Forward, backward, or the forward pass run again inside backward.

        Recomputation runs in backward with gradients enabled. So do the nodes of `create_graph=True`, but those are
        issued by the engine itself and not by Python code.
        """
        if self._graph_task is None or self._graph_task() == -1:
            return FORWARD
        if not torch.is_grad_enabled():
            return BACKWARD
        return BACKWARD if _issued_by_engine() else RECOMPUTE

    def _module(self) -> str:
        """The innermost running module: the longest dotted name."""
        running = self._modules.parents if self._modules is not None else ()
        return max(running, key=lambda name: (name != NO_MODULE, name.count("."), name), default=NO_MODULE)

    def report(self) -> FlopReport:
        """What was counted so far."""
        return add_up(self._counts, self._unknown, tuple(self._notes))


def _notes_on(name: str, tensors: list[torch.Tensor]) -> tuple[str, ...]:
    """A note on what the count of this operator does not contain."""
    if name in FLEXIBLE_ATTENTION:
        return (_FLEX_NOTE,)
    return (_META_NOTE,) if name in _META_ATTENTION and tensors[0].is_meta else ()


def _issued_by_engine() -> bool:
    """Whether the operator being dispatched was called by autograd's engine and not by a line of Python."""
    frame = sys._getframe()  # noqa: SLF001 - what `inspect` calls too, without reading source lines
    while frame.f_globals.get("__name__") in _DISPATCH:
        if frame.f_back is None:
            return True  # a thread of the engine: no Python below it
        frame = frame.f_back
    return frame.f_globals.get("__name__") in _ENGINE


def _fake_tensor() -> type:
    """The class whose operators compute shapes only."""
    from torch._subclasses.fake_tensor import FakeTensor

    return FakeTensor


def _module_tracker() -> Any:
    try:
        from torch.utils.module_tracker import ModuleTracker
    except ImportError:
        return None
    return ModuleTracker()
