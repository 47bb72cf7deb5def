"""A run becomes a `RankSummary`: all that the job needs of one rank, made where its trace is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from mfu_doctor.analysis.replay.model import Timeline
from mfu_doctor.analysis.replay.timeline import replayed_steps
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import MODEL
from mfu_doctor.diagnosis.diagnose import Diagnosed, diagnose_run
from mfu_doctor.diagnosis.pricing import Priced, change_of, most_ns, scale_of
from mfu_doctor.errors import DoctorError
from mfu_doctor.job.rank.collectives import Found, find_collectives
from mfu_doctor.job.rank.cores import cores_of
from mfu_doctor.job.rank.ledger import ledger_of
from mfu_doctor.job.rank.machine import host_of, options_of
from mfu_doctor.job.rank.reach import Scale, place_collectives, reach_of
from mfu_doctor.job.summary import Floats, Mended, RankSummary, Reach
from mfu_doctor.rules.catalogue import RULES
from mfu_doctor.rules.contract import Rule

MOST_MENDED = 6
"""So many of a rank's findings are replayed for the job: the plan of a rank rarely has more, and each is three replays."""
_MOST_NODES = 500_000  # calls and operations in all of these replays together: some 8 s


def summarize(run: Run, *, rank: int | None = None, rules: Sequence[Rule] = RULES) -> RankSummary:
    """Diagnose one rank and reduce it to what the job needs of it.

    Args:
        run: the rank's run.
        rank: what the name of its file says, for a trace that does not tell.
        rules: the rules to ask, in catalogue order.

    Raises:
        DoctorError: the run has no steps, or its GPU is not in the trace.
    """
    if (lost := run.lost_device) is not None:
        raise DoctorError(lost.reason, lost.remedy)
    diagnosed = diagnose_run(run, rules, drawn=False)
    found = find_collectives(run)
    about, ledger = diagnosed.report.run, ledger_of(run, found)
    reach, reason, mended = _replayed(run, diagnosed, found)
    steps = run.steps
    return RankSummary(
        rank=rank if about.rank is None else about.rank,
        world_size=about.world_size,
        trace=about.trace,
        host=host_of(run.trace, about.world_size),
        report=diagnosed.report,
        steps=tuple(steps.number.tolist()),
        step_start=np.append(steps.start, steps.end[-1]) + run.trace.origin_ns,
        steady=steps.steady,
        collectives=found.collectives,
        ledger=ledger,
        reach=reach,
        reach_reason=reason,
        transfer_ns=found.transfer_ns,
        mended=mended,
        flops=_flops(run),
        options=options_of(run, diagnosed.report),
        cores=cores_of(run, ledger.owners),
    )


def _replayed(run: Run, diagnosed: Diagnosed, found: Found) -> tuple[Reach | None, str | None, tuple[Mended, ...]]:
    """The rank's replay, or why there is none, and the replay with each of its first findings mended."""
    if run.replay.distrust is not None:
        return None, run.replay.distrust, ()
    replayed = replayed_steps(run.steps)
    edge = np.append(run.steps.start[replayed], run.steps.end[replayed.stop - 1])
    scale = Scale(run.trace.origin_ns, scale_of(run).second_ns, edge)
    place = place_collectives(run.replay.timeline, found, run.activity.row)

    def reach(timeline: Timeline) -> Reach:
        return reach_of(timeline, place, found, scale)

    return reach(run.replay.timeline), None, tuple(_mended(run, diagnosed.ranked, reach))


def _mended(run: Run, ranked: Iterable[Priced], reach: Callable[[Timeline], Reach]) -> Iterator[Mended]:
    """The findings that save most, each so that alone it saves no more than the rank's own report says.

    One that lets a step's first operation run ahead has no place in the job's steps.
    """
    replay, scale = run.replay, scale_of(run)
    worthwhile = [p for p in ranked if p.worth and p.price is not None]
    nodes = len(replay.timeline.calls.start) + len(replay.timeline.operations.start)
    for priced in worthwhile[: max(min(MOST_MENDED, _MOST_NODES // (3 * nodes + 1)), 1)]:
        change = change_of(priced)
        most = most_ns(replay, priced.finding, scale)
        ends = {id(edits): edits for edits in (change.low, change.mid, change.high)}
        changed = {key: replay.edited_within(edits, most) for key, edits in ends.items()}
        if any(replay.runs_ahead(timeline) for timeline in changed.values()):
            continue
        of = {key: reach(timeline) for key, timeline in changed.items()}
        yield Mended(priced.rule.name, of[id(change.low)], of[id(change.mid)], of[id(change.high)])


def _flops(run: Run) -> Floats:
    """Model FLOP of each step window, NaN if they are not counted, or those of another step."""
    counted = run.flops
    if counted.coverage is None or run.borrows_shapes:
        return np.full(run.steps.count, np.nan)
    of_steps: Floats = counted.tally[..., MODEL].sum(axis=(1, 2))
    return of_steps
