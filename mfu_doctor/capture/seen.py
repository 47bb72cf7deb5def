"""What a capture is asked for, and what it sees of the loop beside its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.destination import Destination, working_directory
from mfu_doctor.capture.device.current_devices import current_devices
from mfu_doctor.capture.facts.backward_graph import nodes_behind
from mfu_doctor.capture.facts.constant_results import ConstantResults
from mfu_doctor.capture.facts.gradient_fates import GradientFates
from mfu_doctor.capture.facts.host import Busy, Stretch
from mfu_doctor.capture.facts.ignored_targets import TargetCounts
from mfu_doctor.capture.facts.kept_scores import MaskCounts
from mfu_doctor.capture.facts.loop import LoopFacts
from mfu_doctor.capture.facts.padded_inputs import PaddedInputs
from mfu_doctor.capture.facts.repeated_calls import RepeatedCalls
from mfu_doctor.capture.facts.repeated_gradients import RepeatedGradients
from mfu_doctor.capture.facts.settings import Compiled, allocator_now, compiled_now
from mfu_doctor.capture.facts.zero_operands import ZeroCounts
from mfu_doctor.capture.loop.stack_sampler import place_here
from mfu_doctor.capture.loop.stopwatch import capturing_graph
from mfu_doctor.facts import DeviceSamples, FrameSample, GivenNumbers, Schedule
from mfu_doctor.facts.garbage import GcPause

_MAX_PAUSES = 20_000  # garbage collections kept


class Request(Struct, frozen=True, kw_only=True):
    """What the user asked for."""

    asked: Schedule
    destination: Destination
    site: str
    given: GivenNumbers
    nvml: Any = None
    current_devices: Callable[[], tuple[str, ...] | None] = current_devices


class Seen(Struct):
    """What was seen beside the steps themselves."""

    loop: LoopFacts
    gradients: GradientFates = field(default_factory=GradientFates)
    calls: RepeatedCalls = field(default_factory=RepeatedCalls)
    derived: RepeatedGradients = field(default_factory=RepeatedGradients)
    targets: TargetCounts = field(default_factory=TargetCounts)
    zeros: ZeroCounts = field(default_factory=ZeroCounts)
    masks: MaskCounts = field(default_factory=MaskCounts)
    results: ConstantResults = field(default_factory=lambda: ConstantResults(working_directory()))
    padded: PaddedInputs = field(default_factory=lambda: PaddedInputs(working_directory()))
    pauses: list[GcPause] = field(default_factory=list)
    frames: tuple[FrameSample, ...] = ()
    worker_frames: tuple[FrameSample, ...] = ()  # of the loader's worker processes, since the first recording began
    samples: tuple[DeviceSamples, ...] = ()
    sampler_status: str | None = None
    busy: tuple[Busy | None, Busy | None] = (None, None)  # when the timed steps began, and ended
    rest: Stretch | None = None  # of the run, after the recording
    compiled: Compiled | None = None  # at the start
    allocator: dict[str, int] = field(default_factory=dict)  # at the start

    def begins(self) -> None:
        """The recording begins."""
        self.compiled = compiled_now()
        self.allocator = allocator_now()

    def collected(self, start_ns: int, duration_ns: int, generation: int, *, asked: bool) -> None:
        """Python's garbage collector ran, by itself or because the program `asked` for it just here."""
        if len(self.pauses) < _MAX_PAUSES:
            place = place_here(working_directory()) if asked else None
            self.pauses.append(GcPause(start_ns=start_ns, duration_ns=duration_ns, generation=generation, place=place))

    def backward(self, roots: Sequence[Any], recorded: bool, differentiable: bool) -> None:
        """A backward pass begins from these tensors, in a step whose time is not used and that is `recorded` or not."""
        if differentiable:
            self.calls.differentiated()
        else:
            self._forget()
        self.gradients.begins(roots, recorded)
        if differentiable and self.calls.watching:
            self.derived.begins()
        if not capturing_graph():
            nodes = nodes_behind(roots) or ()
            self.targets.begins(nodes, recorded)
            self.zeros.begins(nodes, recorded)
            self.masks.begins(nodes, recorded)

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has stepped in such a step."""
        self._forget()
        self.gradients.stepped(optimizer)

    def _forget(self) -> None:
        self.calls.forget()
        self.derived.forget()

    def steps_ahead(self, fetches: int) -> int | None:
        """Steps that one pass over the loader makes that lasts longest, as far as the loaders report their lengths.

        Args:
            fetches: of one step, from all loaders: taken where it is not known how many are from each.
        """
        lengths = self.loop.lengths
        each = self.loop.feeding.each if len(lengths) > 1 else Counter[int]()  # all fetches are of the only one
        ahead = (length // many for n, length in lengths.items() if (many := each[n] or fetches))
        return max(ahead, default=None)
