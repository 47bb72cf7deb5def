"""Which phase each step belongs to, and how the phases become shorter if the run is short.

The length of a run is not known in advance. So the requested schedule is fitted to the length of the DataLoader if that is known.
In addition (see `phase_runner`) the second step is recorded early, in case the run ends before the schedule does.
"""

from __future__ import annotations

from enum import Enum

from mfu_doctor.facts import Schedule


class Phase(Enum):
    """What is done with a step."""

    SKIP = "skip"  # the loop settles: compilation, autotuning, allocator
    TIMED = "timed"  # no profiler: the step time of the report
    WARMUP = "warmup"  # the profiler is attached and records nothing
    TIMING = "timing"  # window A: recorded with light options, for time
    REST = "rest"  # no profiler: see REST_STEPS
    SHAPES = "shapes"  # window B: recorded with shapes and stacks, never for time
    AFTER = "after"  # no profiler: does it linger?
    DONE = "done"


AFTER_STEPS = 3  # to compare with the timed ones

# A span that the first window opened and that ends while the second one records writes to freed memory (torch 2.13; cuts
# made in an optimizer hook lie inside such a span). One step without a profiler between the windows lets every span end.
REST_STEPS = 1

# What a short run gets, most valuable step first: a warm step to record, an un-profiled time, shapes for the FLOP count, a second
# recorded step (steps on a GPU need two marks), and a step for the profiler to attach.
_FIRST_NEEDS = ("skip", "active", "timed", "shapes", "active", "warmup")


def fit(asked: Schedule, available: int | None) -> Schedule:
    """Shrink a schedule to a run of `available` steps; unchanged if the length is unknown or long enough.

    Args:
        asked: the schedule the user (or the defaults) asked for.
        available: steps the run has, as far as its data loader reports it.

    Returns:
        A schedule of at most `available` steps in which no phase is longer than asked.
    """
    want = {
        name: getattr(asked, name) for name in ("active", "timed", "skip", "warmup", "shapes")
    }  # ties go to the first
    if available is None or length(asked) <= available or asked.at_step is not None:
        return asked  # who names a step knows that it comes, in whatever epoch
    got = dict.fromkeys(want, 0)
    left = max(available, 0)
    for name in _FIRST_NEEDS:
        cost = 1 + REST_STEPS if name == "shapes" else 1
        if left >= cost and got[name] < want[name]:
            got[name] += 1
            left -= cost
    if not got["shapes"]:
        return Schedule(**got)
    for _ in range(left):  # fewer than the asked-for steps, so at least one phase still has room
        neediest = min((n for n in want if got[n] < want[n]), key=lambda n: got[n] / want[n])
        got[neediest] += 1
    return Schedule(**got)


def in_turns(phase: Phase, steps: int, turn: int) -> int:
    """So many steps of a phase, or as many more as make whole turns, where each turn does all the work of the loop.

    The first recorded step is not analysed (its queue is empty).
    """
    if phase not in (Phase.TIMED, Phase.TIMING, Phase.SHAPES) or steps <= 0:
        return steps
    unused = 1 if phase is Phase.TIMING else 0
    return -(-max(steps - unused, 1) // turn) * turn + unused if turn > 1 else steps


def length(schedule: Schedule) -> int:
    """Steps until the last window is recorded."""
    rest = REST_STEPS if schedule.shapes else 0
    return schedule.skip + schedule.timed + schedule.warmup + schedule.active + rest + schedule.shapes


def phases(schedule: Schedule) -> list[tuple[Phase, int]]:
    """The phases of a schedule in order, empty ones left out."""
    planned = [
        (Phase.SKIP, schedule.skip),
        (Phase.TIMED, schedule.timed),
        (Phase.WARMUP, schedule.warmup),
        (Phase.TIMING, schedule.active),
        (Phase.REST, REST_STEPS if schedule.shapes else 0),
        (Phase.SHAPES, schedule.shapes),
        (Phase.AFTER, AFTER_STEPS),
    ]
    return [(phase, count) for phase, count in planned if count > 0]
