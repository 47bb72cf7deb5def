"""Facts about the loop's own objects, gathered while it runs: loaders, optimizers, batch shape, autocast.

Only plain values are kept, never a reference to a loader, batch, optimizer or parameter.
"""

from __future__ import annotations

import inspect
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from mfu_doctor.capture.facts.in_step import StepSettings
from mfu_doctor.facts import LoaderFacts, OptimizerFacts
from mfu_doctor.units import NS_PER_S

_MAX_LOADERS = 8
_OPTIONS = ("foreach", "fused")
_MAX_OPTIMIZERS = 16  # one optimizer per parameter would otherwise fill the file
_MAX_WAITS = 1000
_DEPTH = 3  # how far into a batch's containers to look for its first tensor


@dataclass(slots=True)
class _Loader:
    facts: dict[str, Any]
    fetches: int = 0
    waits_ns: list[int] = field(default_factory=list)
    firsts_ns: list[int] = field(default_factory=list)
    cpus_ns: list[int] = field(default_factory=list)
    ready: list[bool] = field(default_factory=list)


@dataclass(slots=True)
class LoopFacts:
    """What is known so far.

    Attributes:
        batch_shape: shape of the first tensor of a batch.
        autocast_dtype: dtype of the autocast region entered last.
        length: batches of the longest loader, if it has a length.
        settings: settings of torch as they are inside of steps.
    """

    batch_shape: tuple[int, ...] | None = None
    autocast_dtype: str | None = None
    length: int | None = None
    settings: StepSettings = field(default_factory=StepSettings)
    _shape_sought: bool = False
    _latest: _Loader | None = None
    _latest_id: int = 0
    _cpu_ns: int | None = None
    _ready: bool | None = None
    _loaders: dict[tuple[Any, ...], _Loader] = field(default_factory=dict)
    _optimizers: dict[int, OptimizerFacts] = field(default_factory=dict)

    def fetching(self, iterator: Any) -> None:
        """A loader begins to fetch a batch on this thread."""
        self._cpu_ns, self._ready = None, None
        self._ready = _has_batch(iterator)
        self._cpu_ns = time.thread_time_ns()

    def fetched(self, iterator: Any, batch: Any, wait_ns: int, *, plain: bool) -> None:
        """A loader's iterator returned a batch after `wait_ns`; `plain`: no profiler was recording."""
        cpu_ns = None if self._cpu_ns is None else time.thread_time_ns() - self._cpu_ns
        self._cpu_ns = None  # a loader that fetches from another one has fetched before it
        loader, first = self._latest, id(iterator) != self._latest_id
        if first:
            loader = self._loader_of(iterator)
        if loader is None:
            return
        loader.fetches += 1
        if first:
            loader.firsts_ns.append(wait_ns)
        elif plain and len(loader.waits_ns) < _MAX_WAITS:
            loader.waits_ns.append(wait_ns)
            if cpu_ns is not None:
                loader.cpus_ns.append(cpu_ns)
            if cpu_ns is not None and self._ready is not None:
                loader.ready.append(self._ready)
        if not self._shape_sought:
            self._shape_sought = True
            self.batch_shape = _first_shape(batch, _DEPTH)

    def stepped(self, optimizer: Any) -> None:
        """An optimizer stepped."""
        self.settings.note("step")
        if id(optimizer) not in self._optimizers and len(self._optimizers) < _MAX_OPTIMIZERS:
            self._optimizers[id(optimizer)] = _optimizer_facts(optimizer)

    def autocast(self, region: Any) -> None:
        """An autocast region was entered."""
        self.settings.note("autocast")
        if getattr(region, "_enabled", False):
            self.autocast_dtype = _short(getattr(region, "fast_dtype", None))

    @property
    def loaders(self) -> tuple[LoaderFacts, ...]:
        """All loaders, most used first."""
        used = sorted(self._loaders.values(), key=lambda loader: -loader.fetches)
        return tuple(_summary(loader) for loader in used)

    @property
    def optimizers(self) -> tuple[OptimizerFacts, ...]:
        """All optimizers, in the order in which they first stepped."""
        return tuple(self._optimizers.values())

    @property
    def parameter_elements(self) -> int | None:
        """Elements of all parameters that an optimizer updates."""
        counts = [o.elements for o in self._optimizers.values() if o.elements is not None]
        return sum(counts) if counts and len(self._optimizers) < _MAX_OPTIMIZERS else None

    @property
    def parameter_dtypes(self) -> tuple[str, ...]:
        """Dtypes of these parameters."""
        return tuple(sorted({dtype for optimizer in self._optimizers.values() for dtype in optimizer.dtypes}))

    def _loader_of(self, iterator: Any) -> _Loader | None:
        """The record of an iterator's loader; epochs of one loader, and loaders with equal settings, share it."""
        facts = _loader_facts(iterator)
        key = tuple(facts.values())
        if key not in self._loaders:
            if len(self._loaders) >= _MAX_LOADERS:
                return None
            self._loaders[key] = _Loader(facts)
            self._note_length(iterator)
        self._latest, self._latest_id = self._loaders[key], id(iterator)
        return self._latest

    def _note_length(self, iterator: Any) -> None:
        try:
            length = len(iterator)
        except (TypeError, NotImplementedError):
            return
        self.length = max(self.length or 0, length)


def _has_batch(iterator: Any) -> bool | None:
    """Whether a DataLoader's workers have a batch ready; None for others. Only looks: nothing is taken from the queue."""
    if not getattr(iterator, "_num_workers", 0):
        return None
    received = getattr(iterator, "_task_info", {}).get(getattr(iterator, "_rcvd_idx", None), ())
    empty = getattr(getattr(iterator, "_data_queue", None), "empty", None)
    if len(received) > 1:
        return True  # it came out of order and was kept
    return None if empty is None else not empty()


def _loader_facts(iterator: Any) -> dict[str, Any]:
    """Settings from the iterator's own attributes; other iterables have only a class."""
    workers = getattr(iterator, "_num_workers", 0)
    parallel = isinstance(workers, int) and workers > 0
    sampler = getattr(iterator, "_index_sampler", None)
    return {
        "class_name": type(iterator).__name__.removeprefix("_").removesuffix("Iter"),
        "num_workers": workers if isinstance(workers, int) else 0,
        "pin_memory": _flag(getattr(iterator, "_pin_memory", None)),
        "persistent_workers": _flag(getattr(iterator, "_persistent_workers", None)) if parallel else None,
        "prefetch_factor": _whole(getattr(iterator, "_prefetch_factor", None)),
        "batch_size": _whole(getattr(sampler, "batch_size", None)),
    }


def _summary(loader: _Loader) -> LoaderFacts:
    return LoaderFacts(
        **loader.facts,
        fetches=loader.fetches,
        wait_s=statistics.median(loader.waits_ns) / NS_PER_S if loader.waits_ns else None,
        cpu_s=statistics.median(loader.cpus_ns) / NS_PER_S if loader.cpus_ns else None,
        ready_share=statistics.fmean(loader.ready) if loader.ready else None,
        first_wait_s=statistics.median(loader.firsts_ns) / NS_PER_S if loader.firsts_ns else None,
    )


def _optimizer_facts(optimizer: Any) -> OptimizerFacts:
    groups = getattr(optimizer, "param_groups", None) or []
    first = groups[0] if groups else {}
    parameters = [p for group in groups for p in group.get("params", ()) if hasattr(p, "numel")]
    return OptimizerFacts(
        class_name=type(optimizer).__name__,
        fused=_flag(first.get("fused")),
        foreach=_flag(first.get("foreach")),
        capturable=_flag(first.get("capturable")),
        parameters=len(parameters),
        elements=sum(int(p.numel()) for p in parameters),
        dtypes=tuple(sorted({_short(p.dtype) or "" for p in parameters})),
        device_types=tuple(sorted({str(p.device.type) for p in parameters})),
        module=type(optimizer).__module__,
        options=_options(type(optimizer)),
        sparse_gradients=any(bool(getattr(getattr(p, "grad", None), "is_sparse", False)) for p in parameters),
    )


def _options(of: type) -> tuple[str, ...] | None:
    """Which implementations the class lets its user choose; None if its constructor cannot be inspected."""
    try:
        taken = [
            inspect.signature(vars(base)["__init__"]).parameters for base in of.__mro__ if "__init__" in vars(base)
        ]
    except (TypeError, ValueError):
        return None
    found: set[str] = set()
    for parameters in taken:  # a constructor with **kwargs may hand them to its base
        found |= {option for option in _OPTIONS if option in parameters}
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            break
    return tuple(sorted(found))


def _first_shape(batch: Any, depth: int) -> tuple[int, ...] | None:
    """Shape of the first tensor found in a batch's lists, tuples and dictionaries."""
    shape = getattr(batch, "shape", None)
    if shape is not None:
        return tuple(int(n) for n in shape)
    if depth == 0:
        return None
    if isinstance(batch, dict) or (hasattr(batch, "values") and hasattr(batch, "keys")):
        parts = list(batch.values())
    else:
        parts = list(batch) if isinstance(batch, list | tuple) else []
    for part in parts:
        found = _first_shape(part, depth - 1)
        if found is not None:
            return found
    return None


def _short(dtype: object) -> str | None:
    return str(dtype).removeprefix("torch.") if dtype is not None else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
