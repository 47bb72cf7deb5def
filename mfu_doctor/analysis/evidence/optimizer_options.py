"""What could replace an optimizer's present implementation: only what its class has, in this version of PyTorch, on this device.

A live run asked the class for its options. A trace only has the name of the class: then the table of torch.optim counts, and a
class is taken for one of the user's own if its step does not run what the class of torch.optim with this name runs.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.library_versions import needs, version_of
from mfu_doctor.analysis.evidence.optimizer import FOREACH, FUSED, SINGLE, Optimizer
from mfu_doctor.analysis.names.optimizers import TORCH_OPTIMIZERS, TorchOptimizer, Version
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.facts import OptimizerFacts
from mfu_doctor.trace import Category

# foreach is no remedy on a CPU: its operations run one tensor at a time there as well. Measured with torch 2.13 and one thread,
# it took 0.6 to 1.3 of the time of single-tensor steps with 150 tensors of 64 x 64 (median 0.83 of 11 classes), and 2 to 3.5
# times as long with 20 tensors of 512 x 512, because its intermediate results leave the cache.
_COMMON = (
    "AdamW",
    "Adam",
    "Adagrad",
    "SGD",
)  # with a fused kernel on a CPU too; a name that has another one comes after it
_ADAPTIVE, _ROOT = (
    "AdamW",
    re.compile(r"^aten::(_foreach_)?(sqrt|rsqrt)_?$"),
)  # divides by the root of a mean of squares
_SPARSE = re.compile(r"sparse|coalesce", re.IGNORECASE)
_TORCH = "torch.optim"
_SETTLED: Version = (2, 0)  # what came up to here needs no remark in a trace without a version
_MANY = 1.5  # device operations per tensor from which on one kernel could make them in one pass


class Remedy(Struct, frozen=True):
    """How the optimizer could run with fewer operations.

    Attributes:
        target: the implementation that it would have: foreach or fused.
        fix: a line to paste.
        effort: as in a finding.
        is_own: whether the class is the user's, whose step has a line to name.
    """

    target: str
    fix: str
    effort: Literal["setting", "line", "refactor"]
    is_own: bool = False


def remedy_of(run: Run, optimizer: Optimizer) -> Remedy | None:
    """The remedy for an optimizer that is not fused, or None if its class has none."""
    name = optimizer.name
    if name is None:
        return None
    told = next((o for o in (run.facts.optimizers if run.facts else ()) if o.class_name == name), None)
    known = TORCH_OPTIMIZERS.get(name)
    if _is_foreign(run, optimizer, told, known):
        return _of_foreign(run, optimizer, known)
    options = _options(run, optimizer, told, known)
    if FUSED in options:
        return Remedy(FUSED, _line(name, "fused=True", _needs(run, known)), "setting")
    if FOREACH in options and optimizer.style == SINGLE and not run.is_cpu:
        return Remedy(FOREACH, _line(name, "foreach=True"), "setting")
    return _after_upgrade(run, optimizer, told, known)


def _after_upgrade(
    run: Run, optimizer: Optimizer, told: OptimizerFacts | None, known: TorchOptimizer | None
) -> Remedy | None:
    """The fused kernel of a newer version, if this one has none."""
    version, since = version_of(run), _fused_since(run, known)
    if version is None or since is None or version >= since or _refuses(run, optimizer, told):
        return None
    return Remedy(FUSED, _line(optimizer.name or "", "fused=True", f"  # {needs(since, version)}"), "line")


def _is_foreign(run: Run, optimizer: Optimizer, told: OptimizerFacts | None, known: TorchOptimizer | None) -> bool:
    """Whether the class is not from torch.optim and takes none of its options."""
    if told is not None and told.module is not None:
        return not told.module.startswith(_TORCH) and not told.options
    if known is None:
        return True
    return (
        optimizer.style == SINGLE
        and known.calls is not None
        and not len(_ids_in(run, optimizer, re.compile(rf"{known.calls}$")))
    )


def _ids_in(run: Run, optimizer: Optimizer, pattern: re.Pattern[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Ids of the names of operators in the optimizer's own time that match."""
    rows = run.trace.rows(Category.CPU_OP)
    rows = rows[optimizer.spans.contains(run.trace.events.start[rows])]
    names = distinct(run.trace.events.name[rows])
    return names[np.isin(names, ids_matching(run.trace, pattern))]


def _of_foreign(run: Run, optimizer: Optimizer, known: TorchOptimizer | None) -> Remedy | None:
    """A class of the user or of a library: the class of torch.optim with its name, else operations on all tensors at once."""
    if optimizer.style != SINGLE or (optimizer.tensors and optimizer.launches <= _MANY * optimizer.tensors):
        return None  # it walks all tensors at once, or each of them in one pass
    alike = optimizer.name if known is not None else _alike(run, optimizer)
    same = TORCH_OPTIMIZERS.get(alike or "")
    if (
        alike is not None
        and same is not None
        and FUSED in _in_table(run, same)
        and not _has_sparse(run, optimizer, None)
    ):
        remark = f"instead of your own {optimizer.name}, or that of a library"
        unsure = "" if known is not None else ", if it computes the same"
        return Remedy(FUSED, f"{_line(alike, 'fused=True')}  # {remark}{unsure}", "line", is_own=True)
    if run.is_cpu:
        return None
    fix = f"torch._foreach_mul_(...), torch._foreach_add_(...)  # all parameters at once in {optimizer.name}.step"
    return Remedy(FOREACH, fix, "refactor", is_own=True)


def _alike(run: Run, optimizer: Optimizer) -> str | None:
    """The class of torch.optim that a class of another name is likely to be: by its name ("MyAdamW"), else by its operators."""
    name = (optimizer.name or "").lower()
    told = next((known for known in _COMMON if known.lower() in name), None)
    return told if told is not None else _ADAPTIVE if len(_ids_in(run, optimizer, _ROOT)) else None


def _options(
    run: Run, optimizer: Optimizer, told: OptimizerFacts | None, known: TorchOptimizer | None
) -> frozenset[str]:
    """Implementations that the class has and that this run can use."""
    found = _in_table(run, known) if known is not None else frozenset((FOREACH, FUSED))
    if told is not None and told.options is not None:
        found &= frozenset(told.options)
    elif known is None:
        return frozenset()
    return frozenset() if _refuses(run, optimizer, told) else found


def _refuses(run: Run, optimizer: Optimizer, told: OptimizerFacts | None) -> bool:
    """Whether PyTorch refuses fused for these tensors; foreach then takes one at a time."""
    complex_ = told is not None and any("complex" in dtype for dtype in told.dtypes)
    return complex_ or _has_sparse(run, optimizer, told)


def _has_sparse(run: Run, optimizer: Optimizer, told: OptimizerFacts | None) -> bool:
    if told is not None and told.sparse_gradients is not None:
        return told.sparse_gradients
    return len(_ids_in(run, optimizer, _SPARSE)) > 0


def _in_table(run: Run, known: TorchOptimizer) -> frozenset[str]:
    """Options of a class of torch.optim with parameters on this device, in this version; an unknown one counts as new."""
    version = version_of(run)
    both = ((FOREACH, known.foreach), (FUSED, _fused_since(run, known)))
    return frozenset(option for option, since in both if since is not None and (version is None or version >= since))


def _fused_since(run: Run, known: TorchOptimizer | None) -> Version | None:
    """The version from which on the class has a fused kernel on this device."""
    return None if known is None else known.fused_cpu if run.is_cpu else known.fused_gpu


def _needs(run: Run, known: TorchOptimizer | None) -> str:
    """A remark on the version that the option needs, if the trace does not tell that this run has it."""
    since = _fused_since(run, known)
    is_known = since is None or since <= _SETTLED or version_of(run) is not None
    return "" if is_known or since is None else f"  # {needs(since, None)}"


def _line(name: str, option: str, remark: str = "") -> str:
    prefix = f"{_TORCH}." if name in TORCH_OPTIMIZERS else ""
    return f"{prefix}{name}(model.parameters(), ..., {option}){remark}"
