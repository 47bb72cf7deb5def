"""What kind of waiting a job has: for the same ranks in most steps, for stages of a pipeline, for uneven work, or by turns.

All waiting of the judged steps is divided: what was carried in from before the recording, what a rank without a trace may have
caused, what is between stages of a pipeline, what is for ranks that do more for themselves in most steps, and the rest. Each part
sums what the other ranks wait.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.views.once import once
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.job.across.blame import longer_than, rows_since
from mfu_doctor.job.across.chance import is_sure
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.own_work import computes_unevenly, excess_ns, follows_work
from mfu_doctor.job.across.table import TO_ONE, UNKNOWN, Floats, Ints, Mask, one_key
from mfu_doctor.job.across.turns import may_be_turns
from mfu_doctor.result.job import BEFORE, JITTER, NOTHING, PIPELINE, SLOW_NODE, STRAGGLER, UNEVEN_WORK, UNREAD_RANK

# Waiting of less than this share of a step is what any two ranks differ by.
_TOLD_SHARE = 0.01
# More than half of a lateness is its cause.
_MOST = 0.5
# Of one step chance cannot be told: there, ranks are slow only if nearly all waiting is for them.
_NEARLY_ALL = 0.8
# Ranks are slow together with the slowest one if they do half as much more for themselves.
_ALSO_SLOW = 0.5
_OF_HOST = 0.8  # of the ranks of a machine must be slow, and of the slow ones be on it


class Pattern(Struct, frozen=True):
    """One kind of waiting.

    Attributes:
        kind: as in `result.job`.
        late: places of the ranks that are waited for, () if they change.
        wait_ns: per step, the mean over the other ranks.
        share: of all waiting between ranks.
        more_ns: per step, what takes longer on the late ranks, by owner; sums to the lateness.
        steps: judged steps in which it is so.
        follows: what the lateness follows, of uneven work: "FLOPs", "bytes", or "computing" where neither is known.
        by_turns: places of ranks that are late in most steps, but maybe only for their turns on the cores.
    """

    kind: str
    late: tuple[int, ...]
    wait_ns: float
    share: float
    more_ns: dict[str, float]
    steps: int
    follows: str | None = None
    by_turns: tuple[int, ...] = ()


class _Waiting(Struct, frozen=True):
    """Waiting of the judged steps by the collective and the step; shape (c,) and the judged steps."""

    collective: Ints
    waited: Floats
    step: Ints  # index into the judged steps
    cause: Ints
    late: Ints  # place of the rank that it is for
    steps: int


@once
def patterns_of(job: Job) -> tuple[Pattern, ...]:
    """Every kind of waiting that has a part of the step worth telling, most first; `NOTHING` if there is none."""
    waiting = _waiting(job)
    total = float(waiting.waited.sum())
    if not waiting.steps or not job.recorded_ns or not total:
        return (Pattern(NOTHING, (), 0.0, 0.0, {}, waiting.steps),)
    carried = _is_carried(job)[waiting.cause]
    found = [_pattern(job, BEFORE, waiting, carried, _first_late(waiting, carried))]
    unread = _is_for_unread(job)[waiting.cause] & ~carried
    found.append(_pattern(job, UNREAD_RANK, waiting, unread, ()))
    known = ~carried & ~unread
    between = _is_between_stages(job)[waiting.collective] & known
    slow = _slow_ranks(job, waiting, known, known & ~between)
    kind = SLOW_NODE if _is_node(job, slow) else STRAGGLER
    for_slow = known & np.isin(waiting.late, slow)
    for_them = _pattern(job, kind, waiting, for_slow, slow)
    by_turns = bool(slow) and may_be_turns(job, slow, for_them.more_ns)
    if slow and not by_turns:
        found.append(for_them)
    for_slow &= not by_turns
    found.append(_pattern(job, PIPELINE, waiting, between & ~for_slow, ()))
    rest = known & ~between & ~for_slow
    rest_of_it = _pattern(job, JITTER, waiting, rest, ())
    follows = follows_work(job) or computes_unevenly(job, rest_of_it.more_ns)
    rest_of_it = rest_of_it if follows is None else replace(rest_of_it, kind=UNEVEN_WORK)
    found.append(replace(rest_of_it, follows=follows, by_turns=slow if by_turns and follows is None else ()))
    told = [one for one in found if one.wait_ns >= _TOLD_SHARE * job.recorded_ns]
    told.sort(key=lambda one: -one.wait_ns)
    return tuple(told) or (Pattern(NOTHING, (), total / waiting.steps / len(job), 1.0, {}, waiting.steps),)


def pattern_of(job: Job, kind: str) -> Pattern | None:
    """The waiting of one kind, if it is worth telling."""
    return next((one for one in patterns_of(job) if one.kind == kind), None)


def _waiting(job: Job) -> _Waiting:
    judged = np.flatnonzero(job.steady)
    place = np.full(len(job.table.steps) + 1, UNKNOWN)
    place[judged] = np.arange(len(judged))
    step = place[job.step]
    kept = step != UNKNOWN
    cause = job.lateness.cause[kept]
    late = job.table.rank[job.lateness.row[cause]]
    waited = job.lateness.waited[kept].astype(np.float64)
    return _Waiting(np.flatnonzero(kept), waited, step[kept], cause, late, len(judged))


def _is_carried(job: Job) -> Mask:
    """Which collectives are late for what was before the recording, shape (c,)."""
    late = job.lateness
    carried: Mask = (late.since == UNKNOWN) & (late.late > 0) & (late.more[:, -1] > _MOST * late.late)
    return carried


def _is_for_unread(job: Job) -> Mask:
    """Which collectives are late for others that lack a rank, shape (c,): what was waiting for it there reads as transfer."""
    table, late = job.table, job.lateness
    lacks = np.array([group.lacks for group in table.groups], np.bool_)
    unsure = lacks[table.group] if len(table) else np.zeros(0, np.bool_)
    unsure[job.matched.complete_rows] = False
    took = np.where(unsure, np.minimum(job.waits.transfer, table.exposed), 0)
    late_ns = late.late
    told: Mask = _is_communication(job) & (late_ns > 0)
    for at in np.flatnonzero(told).tolist():
        told[at] = took[rows_since(table, job.matched, late, at)].sum() > _MOST * late_ns[at]
    return told


def _is_communication(job: Job) -> Mask:
    """Which collectives are late for other ones, shape (c,)."""
    late = job.lateness
    most: Mask = late.more[:, :-1][:, job.accounts.is_communication].sum(axis=1) > _MOST * late.late
    return most


def _is_between_stages(job: Job) -> Mask:
    """Which collectives are between two stages, or late for those: a rank's other collectives come after its last receive."""
    pairs = job.table.is_kind(*TO_ONE)[job.matched.head]
    between: Mask = pairs | (_is_communication(job) & (job.slots.stages > 1))
    return between


def _first_late(waiting: _Waiting, chosen: Mask) -> tuple[int, ...]:
    return tuple(sorted(set(waiting.late[chosen & (waiting.waited > 0)].tolist())))


def _slow_ranks(job: Job, waiting: _Waiting, every: Mask, chosen: Mask) -> tuple[int, ...]:
    """The ranks that most of the waiting is for in step after step; () if they change.

    First those that do more for themselves than the others, all together; else the one that is waited for most, where that is not
    between the stages of a pipeline: there somebody is always waited for.
    """
    excess = excess_ns(job)
    mean = excess.mean(axis=1)
    much = (mean > 0) & (mean >= _ALSO_SLOW * mean.max(initial=0.0))
    slow = np.array([rank for rank in np.flatnonzero(much).tolist() if is_sure(excess[rank], among=len(job))], np.int64)
    if waiting.steps == 1 and not _is_node(job, tuple(slow.tolist())):
        slow = slow[:0]
    alone = _by_step(job, waiting, chosen)
    first = np.array([int(alone.sum(axis=0).argmax())])
    told = np.bincount(waiting.step, np.where(every, waiting.waited, 0.0), waiting.steps)
    telling = 2 * told >= np.bincount(waiting.step, waiting.waited, waiting.steps)  # of the others most is not known
    # Who does more for itself has been proven; who is waited for most must not be so by chance.
    for ranks, by_step, proven in (
        (slow, _by_step(job, waiting, every)[telling], True),
        (first, alone[telling], False),
    ):
        theirs = by_step[:, ranks].sum(axis=1)
        more = 2 * theirs - by_step.sum(axis=1)
        if len(by_step) == 1:
            enough = theirs.sum() >= _NEARLY_ALL * by_step.sum()
        else:
            enough = more.sum() > 0 if proven else is_sure(more, among=len(job))
        if 0 < len(ranks) <= max(len(job) // 2, 1) and theirs.sum() > 0 and enough:
            return tuple(ranks.tolist())
    return ()


def _by_step(job: Job, waiting: _Waiting, chosen: Mask) -> Floats:
    """What the others wait for each rank, shape (judged steps, ranks)."""
    by_step = np.zeros((waiting.steps, len(job)))
    np.add.at(by_step, (waiting.step[chosen], waiting.late[chosen]), waiting.waited[chosen])
    return by_step


def _is_node(job: Job, slow: tuple[int, ...]) -> bool:
    """Whether the slow ranks are those of one machine, of several."""
    hosts = {job.hosts[rank] for rank in slow}
    for host in hosts - {None}:
        here = {rank for rank, other in enumerate(job.hosts) if other == host}
        both = here & set(slow)
        if 1 < len(here) < len(job) and len(both) >= _OF_HOST * max(len(here), len(slow)):
            return True
    return False


def _pattern(job: Job, kind: str, waiting: _Waiting, chosen: Mask, late: tuple[int, ...]) -> Pattern:
    waited = np.where(chosen, waiting.waited, 0.0)
    others = max(len(job) - len(late), 1)
    return Pattern(
        kind,
        late,
        float(waited.sum()) / waiting.steps / others,
        float(waited.sum() / waiting.waited.sum()),
        _more(job, waiting, chosen & (waited > 0), late),
        len(set(waiting.step[chosen & (waited > 0)].tolist())),
    )


def _more(job: Job, waiting: _Waiting, chosen: Mask, mates: tuple[int, ...]) -> dict[str, float]:
    """What takes longer on the late ranks, per step. Collectives that are late for the same reason at once count once.

    A late rank is compared with ranks that are not late with it.
    """
    late = job.lateness
    others = ~np.isin(job.table.rank[job.matched.row], mates)
    more = longer_than(others, job.matched, job.waits, late.spent) if len(mates) > 1 else late.more
    cause = distinct(waiting.cause[chosen])
    order = cause[np.argsort(-late.late[cause], kind="stable")]
    channel = np.where(late.since[order] == UNKNOWN, -2 - job.matched.channel[order], late.since[order])
    first = order[np.unique(one_key(channel, job.table.rank[late.row[order]]), return_index=True)[1]]
    total = more[first].sum(axis=0) / max(waiting.steps, 1)
    return {owner: float(ns) for owner, ns in zip(late.owners, total.tolist(), strict=True) if ns}
