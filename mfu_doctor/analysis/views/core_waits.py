"""Training's threads in line for a core: how much longer a step is for it, and who has the cores meanwhile.

The kernel counts for each thread how long it could have run and had no core. An operator that threads share is done when its
slowest thread is: so a step is longer by the time for which a thread waits that has a part of the work.
"""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.facts import Facts, HostFacts
from mfu_doctor.facts.core_turns import CoreTurns

# Who can have the cores that training waits for.
LOADER, CHILDREN, HELPERS, OTHERS, MACHINES, OWN = "loader", "children", "helpers", "others", "machines", "own"
# A thread of a pool that finds no work looks for some in a loop for a while, and waits for a core as if somebody needed what it
# would do. This part of its wait makes a step longer. Measured on two cores, torch 2.13, with one worker of 0.3 to 0.9 cores and
# with one or two other processes: 0.20 to 0.54 (convolutions), 0.35 to 0.50 (an MLP), 0.36 to 0.80 (a transformer).
_NEEDED = (0.2, 0.45, 1.0)
# A thread that gets its core back finds caches that others have used, and the threads that waited for it asleep: a step was
# longer by up to this many times what all threads waited (a U-Net beside a worker that decodes images: 1.2).
_MOST = 1.25
# Who runs for a second holds a step up for about as long: 0.5 to 1.5 times as long in the same runs. The most is held to twice
# what was seen, since it is to be a bound.
_PER_CORE = (0.5, 1.5, 3.0)
# More threads than cores leave cores idle while some wait for others. With as many as cores this part of it was gone (same runs):
# 0.75 to 1.0.
_REGAINED = (0.5, 0.85, 1.0)
_LONGEST = 0.9  # of a step that would take less than a tenth without waiting nothing can be said
# A turn on a core takes some milliseconds: of fewer than some tens of turns nothing can be said.
_TOO_SHORT_S = 0.1

Shares = tuple[float, float, float]  # least, likely and most


class CoreWaits(Struct, frozen=True):
    """Waiting for a core over the steps without the profiler.

    Attributes:
        cores: that this process and its children may use.
        had: cores that each of those had who may have taken them from training; its own threads: what they wait for each other.
        delay: share of the step by which it is longer because threads wait.
        regained: share of the step that fewer threads would save; 0 if there are no more than cores.
    """

    cores: float
    had: dict[str, float]
    delay: Shares
    regained: Shares

    def because_of(self, *who: str) -> Shares:
        """The part of the delay that is theirs, by what each had of the cores.

        Who ran for so long held nobody up for much longer, so the rest of a long wait is not theirs: threads of training wait for
        each other too.
        """
        if who == (OWN,):
            return self.regained
        theirs, total = sum(self.had[one] for one in who), sum(self.had.values())
        part = theirs / total if total else 0.0
        least, likely, most = (
            min(delay * part, theirs * bound) for delay, bound in zip(self.delay, _PER_CORE, strict=True)
        )
        return least, likely, most


def core_waits(facts: Facts | None, *, is_cpu: bool, held_up: float | None = None) -> CoreWaits | str:
    """What is known of it, or why it is not.

    Args:
        facts: what profile() recorded.
        is_cpu: whether operators run on the CPU, in threads that share them.
        held_up: share of the operators' time by which they were longer than in their quick steps, if that is known.
    """
    host = facts.host if facts is not None else None
    if facts is None or host is None or host.turns is None:
        return "how long threads waited for a core was not recorded: Linux counts it for mfu_doctor.profile()"
    cores = host.usable_cores
    if cores is None or host.worker_cpu_share is None or host.other_cores is None:
        return "who used the cores was not recorded"
    if host.shares_s is not None and host.shares_s < _TOO_SHORT_S:
        return "the steps without the profiler were too short to tell how long threads wait for a core"
    turns, had = host.turns, _others(facts, host)
    pool = turns.pool_waited if is_cpu else 0.0  # beside a GPU operators only issue
    delay, regained = _delay(turns.training_waited, pool, held_up), (0.0, 0.0, 0.0)
    if (host.torch_threads or 1) * (facts.world_size or 1) > cores:
        idle = max(min(1.0 - (_ran(turns) + sum(had.values())) / cores, delay[2]), 0.0)
        regained = _REGAINED[0] * idle, _REGAINED[1] * idle, _REGAINED[2] * idle
        had[OWN] = max(turns.training_waited + pool - sum(had.values()), 0.0)
    return CoreWaits(cores, had, delay, regained)


def _others(facts: Facts, host: HostFacts) -> dict[str, float]:
    """What the loader's workers, other children, helper threads, other processes and virtual machines had of these cores."""
    children = host.worker_cpu_share or 0.0
    # Workers that ended meanwhile, as those of a loader that is begun anew in each step, are not counted as workers any more.
    loader = host.loader_cpu_share or children
    loader = min(loader, children) if any(used.num_workers for used in facts.loaders) else 0.0
    return {
        LOADER: loader,
        CHILDREN: children - loader,
        HELPERS: (host.turns.python_ran if host.turns is not None else None) or 0.0,
        OTHERS: host.other_cores or 0.0,
        MACHINES: host.stolen_cpu_share or 0.0,
        OWN: 0.0,
    }


def _delay(training: float, pool: float, held_up: float | None) -> Shares:
    """How much longer a step is if its training thread and its pool wait so much."""
    least, likely, _ = (training + part * pool for part in _NEEDED)
    most = _MOST * (training + pool)
    likely = min(max(likely, held_up or 0.0), most)  # every recorded step may have been held up
    return min(least, _LONGEST), min(likely, _LONGEST), min(most, _LONGEST)


def _ran(turns: CoreTurns) -> float:
    return turns.training_ran + turns.pool_ran
