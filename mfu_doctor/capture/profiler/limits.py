"""What is recorded: version checks against known crashes, and how many steps the limit of events allows."""

from __future__ import annotations

import sys
import threading

from msgspec import Struct

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.stopwatch import cuda_in_use
from mfu_doctor.capture.profiler.session import Options
from mfu_doctor.facts import TOO_LARGE

# Stopping and exporting a window holds the GIL for about 4 us per event and needs 1.5 kB of memory for each: 300 000
# events are about a second and half a gigabyte (measured, torch 2.13).
EVENT_BUDGET = 300_000

# Densest recording seen is about one event per microsecond of host time; half of it bounds a step that was never looked at.
_EVENTS_PER_S = 500_000

# A call from Python that is recorded with source lines costs as much as four operators (15 us, 1.8 kB; see `python_calls`).
_CALL_COSTS = 4
# One step has its source lines, which are worth three seconds and a third of a gigabyte, but no more.
MOST_CALLS = 200_000

# With CUDA, each launch adds a runtime call, a kernel and its link to the operators that a look at the host alone counts.
_DEVICE_FACTOR = 2.5

_SLOW_STEP_S = 30.0  # a step this long is recorded without stacks: its events alone fill the budget
_STACKS_SAFE = (2, 8)  # torch before 2.8 on Python 3.13 segfaults with stacks (pytorch#144094, #148273)
_SESSIONS_SAFE = (12, 6)  # CUDA graphs before this CUDA crash when a second session attaches (pytorch#75504, #150957)


class StepSize(Struct, frozen=True):
    """What is known of a step before it is recorded; None: unknown.

    Attributes:
        seconds: of a warm step.
        events: of a recorded one, without source lines.
        calls: that it makes from Python; more than `MOST_CALLS` are not counted.
    """

    seconds: float | None = None
    events: float | None = None
    calls: int | None = None


def options_for(kind: str, step: StepSize, notes: Notes, *, alone: bool) -> Options:
    """What a window of this kind records.

    Args:
        kind: "look" (host only: attaching to the device slows the timed steps that follow), "timing" or "shapes".
        step: what is known of a step.
        notes: where to say what is left out.
        alone: whether no shapes window follows, so that the timing window must have the shapes.
    """
    if kind == "look":
        return Options(cuda=False, shapes=True)
    if kind == "timing":
        return Options(cuda_in_use(), shapes=alone or single_session())
    return Options(cuda_in_use(), shapes=True, stacks=_stacks_are_safe(step, notes))


def single_session() -> bool:
    """Whether this process may attach the profiler to the device only once."""
    import torch

    inductor, cuda = sys.modules.get("torch._inductor.config"), torch.version.cuda
    return inductor is not None and cuda is not None and inductor.triton.cudagraphs and _release(cuda) < _SESSIONS_SAFE


def steps_within_budget(steps: int, step: StepSize, options: Options, notes: Notes) -> int:
    """How many steps may be recorded.

    Args:
        steps: steps wanted.
        step: what is known of a step; its seconds bound the events if none were counted.
        options: what is recorded of it.
        notes: where to say that fewer were recorded.
    """
    if step.events:
        events = step.events
    elif step.seconds is not None:
        events = step.seconds * _EVENTS_PER_S
    else:
        return steps
    if options.stacks:
        events += _CALL_COSTS * (step.calls or 0)
    allowed = max(1, int(EVENT_BUDGET / max(events, 1.0)))
    if allowed < steps:
        notes.say(
            f"{allowed} of {steps} steps recorded{_with(options)}: {TOO_LARGE} {int(events)} events, "
            f"at most {EVENT_BUDGET} are recorded"
        )
    return min(steps, allowed)


def _with(options: Options) -> str:
    return " with shapes" if options.shapes else ""


def events_of_look(events: int) -> float:
    """Events of a step, from those of a look at the host alone."""
    return events * (_DEVICE_FACTOR if cuda_in_use() else 1.0)


def _stacks_are_safe(step: StepSize, notes: Notes) -> bool:
    import torch

    if sys.version_info >= (3, 13) and _release(torch.__version__) < _STACKS_SAFE:
        notes.say("no source lines: recording stacks crashes torch before 2.8 on Python 3.13")
        return False
    if sys.getprofile() is not None or threading.getprofile() is not None:
        notes.say("no source lines: a Python profiler (sys.setprofile) is active")  # torch would take it off
        return False
    if step.calls is not None and step.calls > MOST_CALLS:
        notes.say(f"no source lines of operators: a step calls more than {MOST_CALLS} functions from Python")
        return False
    if step.seconds is not None and step.seconds > _SLOW_STEP_S:
        notes.say(f"no source lines: a step takes more than {_SLOW_STEP_S:.0f} s")
        return False
    return True


def _release(version: str) -> tuple[int, ...]:
    """Major and minor number of "2.13.0+cpu"."""
    return tuple(int(part) for part in version.split("+", maxsplit=1)[0].split(".")[:2])
