"""Facts about the loop's own objects, gathered while it runs: loaders, optimizers, batch shape, autocast.

Only plain values are kept, never a reference to a loader, batch, optimizer or parameter.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mfu_doctor.capture.facts.in_step import StepSettings
from mfu_doctor.capture.facts.iterators import has_batch, length_of, loader_settings, sample_place, workers_of
from mfu_doctor.capture.facts.optimizers import described, short
from mfu_doctor.capture.loop.feeding import Feeding
from mfu_doctor.capture.loop.hooks import loader_of
from mfu_doctor.capture.loop.identities import Identities
from mfu_doctor.capture.loop.stack_sampler import UserFiles
from mfu_doctor.facts import LoaderFacts, OptimizerFacts
from mfu_doctor.units import NS_PER_S

_MAX_LOADERS = 256  # a new one for each epoch or fold
_MAX_OPTIMIZERS = 16  # one optimizer per parameter would otherwise fill the file
_AWAY = 2  # an optimizer that stays away more than so many times as long as ever before has been given up
_MAX_WAITS = 1000
_MOST_PARTS = 10_000  # of a batch's containers that are counted
_DEPTH = 3  # how far into a batch's containers to look for its first tensor


@dataclass(slots=True)
class _Loader:
    facts: dict[str, Any]
    shape: tuple[int, ...] | None = None  # of the first tensor of its first batch
    length: int | None = None
    elements: int | None = None  # of all tensors of its first batch
    epoch: int = 0  # number of its latest iterator
    workers: tuple[int, ...] = ()  # processes of this iterator
    fetches: int = 0
    begun: int = 0  # iterators
    newest: int = 0  # the highest number of one
    waits_ns: list[int] = field(default_factory=list)
    firsts_ns: list[int] = field(default_factory=list)
    cpus_ns: list[int] = field(default_factory=list)
    ready: list[bool] = field(default_factory=list)
    ready_ns: list[int] = field(default_factory=list)  # waits of those that were


@dataclass(slots=True)
class _Stepper:
    facts: OptimizerFacts
    parameters: dict[int, int]  # elements by the parameter's address
    first: int  # beat of its first step
    steps: int = 0
    last: int = 0  # beat of its last step
    gap: int = 0  # the most beats between two of its steps; before the second one the beats before the first


@dataclass(slots=True)
class LoopFacts:
    """What is known so far.

    Attributes:
        feeding: which loaders feed the loop; the facts are of these, or of all if none is known to.
        autocast_dtype: dtype of the autocast region entered last.
        known: numbers of the loop's objects.
        settings: settings of torch as they are inside of steps.
        updates: how often each optimizer steps in a step of the loop; empty: once.
        base: directory that places are shown relative to.
    """

    feeding: Feeding = field(default_factory=Feeding)
    autocast_dtype: str | None = None
    known: Identities = field(default_factory=Identities)
    settings: StepSettings = field(default_factory=StepSettings)
    updates: dict[Hashable, float] = field(default_factory=dict)
    base: Path | None = None
    _files: UserFiles = field(init=False)
    _loaders: dict[int, _Loader] = field(default_factory=dict)
    _steppers: dict[int, _Stepper] = field(default_factory=dict)
    _beats: int = 0  # optimizer steps of all
    _cpu_ns: int | None = None
    _ready: bool | None = None

    def __post_init__(self) -> None:
        self._files = UserFiles(self.base)

    def fetching(self, iterator: Any) -> None:
        """A loader begins to fetch a batch on this thread."""
        self._cpu_ns, self._ready = None, None
        self._ready = has_batch(iterator)
        self._cpu_ns = time.thread_time_ns()

    def fetched(self, iterator: Any, batch: Any, wait_ns: int, *, plain: bool) -> None:
        """A loader's iterator returned a batch after `wait_ns`; `plain`: no profiler was recording."""
        cpu_ns = None if self._cpu_ns is None else time.thread_time_ns() - self._cpu_ns
        self._cpu_ns = None  # a loader that fetches from another one has fetched before it
        number = self.known.of(loader_of(iterator))
        if number not in self._loaders:
            if len(self._loaders) >= _MAX_LOADERS:
                return
            settings = loader_settings(iterator) | {"sample_place": sample_place(iterator, self._files)}
            self._loaders[number] = _Loader(
                settings, _first_shape(batch, _DEPTH), length_of(iterator), _elements(batch, _DEPTH)
            )
        loader, epoch = self._loaders[number], self.known.of(iterator)
        loader.fetches += 1
        if epoch != loader.epoch:
            loader.epoch, loader.workers = epoch, workers_of(iterator)
            if epoch > loader.newest:  # two iterators can take turns: zip(loader, loader)
                loader.newest, loader.begun = epoch, loader.begun + 1
            if len(loader.firsts_ns) < _MAX_WAITS:
                loader.firsts_ns.append(wait_ns)
        elif plain and len(loader.waits_ns) < _MAX_WAITS:
            loader.waits_ns.append(wait_ns)
            if cpu_ns is not None:
                loader.cpus_ns.append(cpu_ns)
            if cpu_ns is not None and self._ready is not None:
                loader.ready.append(self._ready)
                loader.ready_ns += [wait_ns] if self._ready else []

    def stepped(self, optimizer: Any) -> None:
        """An optimizer stepped."""
        self.settings.note("step")
        number = self.known.of(optimizer)
        self._beats += 1
        stepper = self._steppers.get(number)
        if stepper is None:
            self._steppers = {n: other for n, other in self._steppers.items() if self._steps_still(other)}
            stepper = self._steppers[number] = _Stepper(
                *described(optimizer), self._beats, last=self._beats, gap=self._beats
            )
        since = self._beats - stepper.last
        stepper.gap = max(stepper.gap, since) if stepper.steps > 1 else since or stepper.gap
        stepper.steps, stepper.last = stepper.steps + 1, self._beats

    def follow(self, former: object) -> None:
        """The loop of the former anchor is over: forget the optimizers that have not stepped since."""
        left = self._steppers.get(former) if isinstance(former, int) else None
        if left is not None:
            self._steppers = {n: s for n, s in self._steppers.items() if s.last > left.last}

    def stay(self, former: object) -> None:
        """The recording is about the loop of the former anchor: forget the optimizers that began to step after it."""
        left = self._steppers.get(former) if isinstance(former, int) else None
        if left is not None:
            self._steppers = {n: s for n, s in self._steppers.items() if s.first <= left.last}
            self._beats = left.last

    def autocast(self, region: Any) -> None:
        """An autocast region was entered."""
        self.settings.note("autocast")
        if getattr(region, "_enabled", False):
            self.autocast_dtype = short(getattr(region, "fast_dtype", None))

    @property
    def lengths(self) -> dict[int, int]:
        """Batches of each of the loop's loaders that has a length, by its number."""
        feeders = self.feeding.feeders or self._loaders.keys()
        return {n: length for n in feeders if n in self._loaders and (length := self._loaders[n].length) is not None}

    @property
    def loading(self) -> frozenset[int]:
        """Numbers of the processes that load batches."""
        return frozenset(pid for loader in self._loaders.values() for pid in loader.workers)

    @property
    def batch_shape(self) -> tuple[int, ...] | None:
        """Shape of the first tensor of a batch of the loader that is used most."""
        used = self._of_loop(self.feeding.trained)
        return max(used, key=lambda loader: loader.fetches).shape if used else None

    @property
    def batch_elements(self) -> int | None:
        """Numbers in such a batch, of all its tensors; None if it holds something else besides."""
        used = self._of_loop(self.feeding.trained)
        return max(used, key=lambda loader: loader.fetches).elements if used else None

    @property
    def loaders(self) -> tuple[LoaderFacts, ...]:
        """The loop's loaders, most used first; those with equal settings (of several epochs or folds) are one."""
        merged: dict[tuple[Any, ...], _Loader] = {}
        for loader in self._of_loop(self.feeding.trained):
            one = merged.setdefault(tuple(loader.facts.values()), _Loader(loader.facts, length=loader.length))
            one.fetches += loader.fetches
            one.begun = max(one.begun, loader.begun)  # a loader that is made anew is another fault
            one.waits_ns += loader.waits_ns
            one.firsts_ns += loader.firsts_ns
            one.cpus_ns += loader.cpus_ns
            one.ready += loader.ready
            one.ready_ns += loader.ready_ns
        used = sorted(merged.values(), key=lambda loader: -loader.fetches)
        return tuple(_summary(loader) for loader in used)

    @property
    def optimizers(self) -> tuple[OptimizerFacts, ...]:
        """The optimizers that step in the loop, in the order in which they first stepped."""
        found = [(number, s.facts) for number, s in self._steppers.items() if self._steps_still(s)]
        return tuple(replace(facts, per_step=self.updates.get(number)) for number, facts in found[:_MAX_OPTIMIZERS])

    @property
    def parameter_elements(self) -> int | None:
        """Elements of all parameters that these optimizers update, each parameter counted once."""
        elements = {address: size for stepper in self._stepping for address, size in stepper.parameters.items()}
        return sum(elements.values()) if elements else None

    @property
    def parameter_dtypes(self) -> tuple[str, ...]:
        """Dtypes of these parameters."""
        return tuple(sorted({dtype for stepper in self._stepping for dtype in stepper.facts.dtypes}))

    @property
    def _stepping(self) -> list[_Stepper]:
        return [stepper for stepper in self._steppers.values() if self._steps_still(stepper)]

    def _steps_still(self, stepper: _Stepper) -> bool:
        """Whether it has not been given up: it has been away no longer than it was before (see `rhythm`)."""
        return self._beats - stepper.last <= _AWAY * stepper.gap + _AWAY

    def _of_loop(self, numbers: set[int]) -> list[_Loader]:
        chosen = [self._loaders[number] for number in sorted(numbers) if number in self._loaders]
        return chosen or list(self._loaders.values())


def _summary(loader: _Loader) -> LoaderFacts:
    return LoaderFacts(
        **loader.facts,
        fetches=loader.fetches,
        begun=loader.begun,
        length=loader.length,
        wait_s=statistics.median(loader.waits_ns) / NS_PER_S if loader.waits_ns else None,
        cpu_s=statistics.median(loader.cpus_ns) / NS_PER_S if loader.cpus_ns else None,
        ready_share=statistics.fmean(loader.ready) if loader.ready else None,
        ready_wait_s=statistics.median(loader.ready_ns) / NS_PER_S if loader.ready_ns else None,
        first_wait_s=statistics.median(loader.firsts_ns) / NS_PER_S if loader.firsts_ns else None,
    )


def _first_shape(batch: Any, depth: int) -> tuple[int, ...] | None:
    """Shape of the first tensor found in a batch's lists, tuples and dictionaries."""
    shape = getattr(batch, "shape", None)
    if shape is not None:
        return tuple(int(n) for n in shape)
    if depth == 0:
        return None
    for part in _parts(batch) or ():
        found = _first_shape(part, depth - 1)
        if found is not None:
            return found
    return None


def _elements(batch: Any, depth: int) -> int | None:
    """Numbers in all tensors and arrays of a batch, and characters of its texts; None if it holds something else."""
    shape = getattr(batch, "shape", None)
    if shape is not None:
        return math.prod(int(n) for n in shape)
    if isinstance(batch, str | bytes):
        return len(batch)
    if batch is None or isinstance(batch, int | float):
        return 1
    parts = _parts(batch) if depth else None
    if parts is None or len(parts) > _MOST_PARTS:
        return None
    each = [_elements(part, depth - 1) for part in parts]
    known = [one for one in each if one is not None]
    return sum(known) if len(known) == len(each) else None


def _parts(batch: Any) -> list[Any] | None:
    """What a dictionary, a list or a tuple holds; None: it is none of them."""
    if isinstance(batch, dict) or (hasattr(batch, "values") and hasattr(batch, "keys")):
        return list(batch.values())
    return list(batch) if isinstance(batch, list | tuple) else None
