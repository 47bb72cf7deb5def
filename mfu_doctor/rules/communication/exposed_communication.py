"""The device waits for collectives: they run while it computes nothing.

What it measures
    The time in which a collective runs and no compute kernel does. For collectives of the same kind and size, what others take
    above the fastest one is waiting for other ranks. The fastest one is transfer if it reaches a rate that the link between the
    devices has: if a rank is late in every step, all of them are equally long. Otherwise the trace of one rank does not tell
    transfer from waiting, and the report says so.

Why it costs
    In data-parallel training the gradient reduction overlaps with backward. A collective that is too long or starts too late
    makes the step longer.

How the gain is predicted
    The exposed part of each collective becomes shorter. Replay simulates the recorded timeline again with these shorter
    collectives.
    Low: half of the exposed time that is known to be transfer is removed.
    Mid: all of it is removed.
    High: all exposed time is removed, including waiting for other ranks. This is only possible if the ranks are balanced too.
    If for most of the exposed time it is not known whether it is transfer, no saving is predicted, and no option is advised:
    larger or smaller buckets do not make a late rank faster.
    The saving is limited by the compute that does not yet overlap with a collective. A collective that already overlaps with
    compute saves nothing.

How to fix
    If transfer and waiting cannot be told apart: record all ranks, and report on their directory. It says which rank is late, and
    why. Otherwise the report names the option of the framework whose spans are in the trace: the bucket size of
    DistributedDataParallel, the prefetching of FSDP, overlap_comm of DeepSpeed, more micro-batches of a pipeline, an earlier
    exchange with torchrec. If the trace shows none of them, or shows that the option is already used, it names none of their
    options.

When it is wrong
    The rule is wrong if a collective waits for a slow rank and is still as quick as its link could be: with the trace of one
    rank, this looks like a transfer. Report on all ranks together.

References
    Li et al., PyTorch Distributed: experiences on accelerating data parallel training, VLDB 2020.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.collectives import Collectives, collectives_of
from mfu_doctor.analysis.evidence.parallelism import overlap_fix, parallelism_of
from mfu_doctor.analysis.evidence.steady_steps import Steady, part_of, steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION
from mfu_doctor.quantities import counted, share, time_of
from mfu_doctor.result.findings import Ends, Evidence
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

ALL_RANKS = "mfu-doctor report DIR  # the traces of all ranks: which one is late, and why"
MOSTLY = 0.5  # share of the exposed time; if more of it may be waiting, no fix of the transfer has a price
TINY = 0.01  # share of the exposed time that is not worth a clause


@rule("exposed-communication", "CO001", "the device waits for collectives", also=("overlap", "all-reduce"))
def exposed_communication(run: Run) -> Outcome:
    """Judge the collectives of the analysed steps."""
    steady = steady_of(run)
    every = collectives_of(run)
    if every is None:
        return None
    inside = steady.entries(run)[every.entry]
    part = part_of(run, "communication")  # of all together: collectives can overlap
    exposed = part.mean_ns
    if not inside.any() or exposed < WORTH_SHARE * steady.step_ns:
        return None
    total = steady.per_step(float((run.activity.busy(COMMUNICATION) & steady.device).total_ns))
    spent = steady.per_step(float(every.exposed_ns[inside].sum()))
    at_once = min(exposed / spent, 1.0) if spent else 1.0  # collectives that run at the same time wait at the same time
    waiting = min(steady.per_step(float(every.exposed_wait_ns[inside].sum())) * at_once, exposed)
    sure = np.where(every.transfer_known, every.exposed_ns, every.exposed_wait_ns)
    compared = steady.per_step(float(sure[inside].sum()))
    told = Exposed(total, exposed, waiting, exposed * (1 - compared / spent) if spent else exposed)
    known = told.unknown_ns <= MOSTLY * exposed
    fix = overlap_fix(parallelism_of(run), _longest_kind(every, inside)) if known else ALL_RANKS
    return Finding(
        summary=f"{'Training' if run.is_cpu else 'GPU'} waits for communication {part.of_step}",
        fix=fix,
        detail=f"{share(total - exposed, total)} of {time_of(total)} overlaps with compute; {_about_waiting(told)}",
        decides=Ends(low="half of the transfers stay exposed", high="no rank is late and all transfers overlap"),
        change=_change(run, every, _coverable(run, total, exposed)) if known else None,
        evidence=_evidence(steady, every, inside, told, at_once),
        symptom_of=_roots(every, inside),
        confidence=("hint" if waiting > exposed / 2 else "modelled") if known else "measured",
        risk="rounding" if "BF16" in fix else "none",
    )


class Exposed(Struct, frozen=True):
    """Communication per step in nanoseconds.

    Attributes:
        total_ns: all of it.
        exposed_ns: the part behind which nothing is computed.
        waiting_ns: the part of that which is waiting for other ranks, at least.
        unknown_ns: the part of the exposed one of which the trace does not tell whether it is waiting.
    """

    total_ns: float
    exposed_ns: float
    waiting_ns: float
    unknown_ns: float


def _about_waiting(told: Exposed) -> str:
    """What is known about waiting for other ranks. Not known is not 0."""
    if told.unknown_ns >= told.exposed_ns * (1 - TINY) and not told.waiting_ns:
        return "how much of the rest is waiting for other ranks is not known from the trace of one rank"
    waits = f"at least {time_of(told.waiting_ns)} of the rest is waiting for other ranks"
    if told.unknown_ns > TINY * told.exposed_ns:
        return f"{waits}, and of {time_of(told.unknown_ns)} it is not known"
    return (
        waits
        if told.waiting_ns
        else "equal collectives took equally long, so either none or each of them waited for other ranks"
    )


def _longest_kind(every: Collectives, inside: npt.NDArray[np.bool_]) -> str:
    """The kind of collective that is exposed longest."""
    spent: dict[str, int] = {}
    for i in np.flatnonzero(inside).tolist():
        spent[every.kind[i]] = spent.get(every.kind[i], 0) + int(every.exposed_ns[i])
    return max(spent, key=lambda kind: spent[kind])


def _roots(every: Collectives, inside: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """Rules that explain why communication does not overlap: a slow link, or more communication than needed."""
    roots = ("slow-link", "sync-every-microbatch", "small-buckets", "late-gathers")
    mostly_tiny = every.exposed_ns[inside & every.tiny].sum() * 2 > every.exposed_ns[inside].sum()
    return (*roots, "scalar-collectives") if mostly_tiny else roots


def _coverable(run: Run, total_ns: float, exposed_ns: float) -> float:
    """Share of the exposed time that can overlap with compute: limited by the compute that overlaps with no collective yet."""
    free = run.breakdown.mean_ns("compute") - (total_ns - exposed_ns)
    return min(max(free, 0.0) / exposed_ns, 1.0)


def _change(run: Run, every: Collectives, coverable: float) -> Change:
    rows = run.activity.row[every.entry]
    transfer = np.where(every.transfer_known, every.exposed_ns - every.exposed_wait_ns, 0) * coverable

    def less(saved: npt.NDArray[np.float64]) -> tuple[SetDevice]:
        return (SetDevice(rows, np.maximum(every.duration_ns - saved, 0).astype(np.int64)),)

    return Change(less(transfer / 2), less(transfer), less((every.exposed_ns * coverable).astype(np.float64)))


def _evidence(
    steady: Steady, every: Collectives, inside: npt.NDArray[np.bool_], told: Exposed, at_once: float
) -> tuple[Evidence, ...]:
    """The numbers; of each kind its part of the exposed time, which several at the same time share (`at_once`)."""
    found = [
        shown("collectives", steady.per_step(int(inside.sum())), "per step"),
        shown("communication", seconds(told.total_ns), "s"),
        shown("exposed communication", seconds(told.exposed_ns), "s"),
    ]
    if told.unknown_ns < told.exposed_ns * (1 - TINY):
        found.append(shown("waiting for other ranks, at least", seconds(told.waiting_ns), "s"))
    if told.unknown_ns > TINY * told.exposed_ns:
        found.append(shown("waiting or transfer, unknown which", seconds(told.unknown_ns), "s"))
    for kind in sorted(set(every.kind)):
        mine = inside & np.array([k == kind for k in every.kind])
        if mine.any():
            spent = steady.per_step(float(every.exposed_ns[mine].sum())) * at_once
            count = counted(steady.per_step(int(mine.sum())), "call")
            found.append(shown(f"{kind}, {count} per step", seconds(spent), "s"))
    return tuple(found)
