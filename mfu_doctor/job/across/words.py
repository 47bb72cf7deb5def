"""How a job is told in sentences: who waits for whom, and what takes longer there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfu_doctor.analysis.views.once import once
from mfu_doctor.job.across.accounts import BEFORE_OWNER, COMMUNICATION
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.patterns import Pattern
from mfu_doctor.quantities import counted, duration, share
from mfu_doctor.result.bottleneck import HOST, HOST_PARTS, VOCABULARY
from mfu_doctor.result.job import BEFORE, JITTER, NOTHING, PIPELINE, SLOW_NODE, STRAGGLER, UNEVEN_WORK, UNREAD_RANK

_FEW = 4  # ranks that are named one by one
_MAIN = 0.5  # of the lateness: what has less of it is not named as its cause


def ranks_named(ranks: Sequence[int]) -> str:
    """Which ranks: "rank 5", "ranks 0, 3 and 5", "12 ranks"."""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) > _FEW:
        return counted(len(ranks), "rank")
    return f"ranks {', '.join(str(rank) for rank in ranks[:-1])} and {ranks[-1]}"


def owner_words(owner: str) -> str:
    """An owner of an account in words: "computing (matmul)", "waiting for data"."""
    bucket, _, part = owner.partition(": ")
    if bucket == COMMUNICATION:
        return f"communication in {part}" if part else "communication"
    takes = VOCABULARY[bucket].takes if bucket in VOCABULARY else bucket
    return f"{takes} ({part})" if part else takes


def main_cause(more: dict[str, float]) -> str | None:
    """The owner that has most of a lateness, else the bucket whose owners have it together; None if nothing stands out.

    A rank with longer sequences is late for its products, its attention and its copies: none of them has most, computing has.
    """
    late, buckets = sum(more.values()), dict.fromkeys(map(_bucket, more), 0.0)
    for owner, ns in more.items():
        buckets[_bucket(owner)] += ns
    for found in (more, buckets):
        first = max(found, key=lambda owner: found[owner], default=None)
        if first is not None and found[first] > _MAIN * max(late, 0.0) and found[first] > 0:
            return first
    return None


def _bucket(owner: str) -> str:
    return HOST if owner in HOST_PARTS else owner.partition(": ")[0]


def sentence_of(job: Job, pattern: Pattern) -> str:
    """One sentence on a kind of waiting."""
    step_ns, late = job.recorded_ns, [job.ranks[place] for place in pattern.late]
    wait = f"{duration(pattern.wait_ns / job.second_ns)} a step ({share(pattern.wait_ns, step_ns)})"
    everyone = "Rank " + str(job.ranks[1 - pattern.late[0]]) if len(job) == 2 and pattern.late else "All other ranks"
    waits = f"{everyone} {'waits' if len(job) == 2 and pattern.late else 'wait'} {wait} for"
    if pattern.kind == STRAGGLER:
        return f"{waits} {ranks_named(late)}{_compared(job, pattern)}."
    if pattern.kind == SLOW_NODE:
        return f"{waits} {ranks_named(late)} of {job.hosts[pattern.late[0]]}{_compared(job, pattern)}."
    if pattern.kind == UNEVEN_WORK:
        return f"Ranks wait {wait} for each other by turns: their work is uneven, and who is late follows its {pattern.follows}."
    if pattern.kind == PIPELINE:
        return f"Stages of the pipeline wait {wait} for each other."
    if pattern.kind == BEFORE:
        began = f"{duration(pattern.wait_ns / job.second_ns)} ({share(pattern.wait_ns, step_ns)} of the step)"
        was = "was" if len(late) == 1 else "were"
        before = f"which {was} late before the recording began: why is not in it"
        return f"The other ranks wait {began} for {ranks_named(late)}, {before}."
    if pattern.kind == UNREAD_RANK:
        return f"Ranks wait {wait} for those that share collectives with a rank without a trace: they may wait for it there."
    if pattern.kind == JITTER and pattern.by_turns:
        held_up = ranks_named([job.ranks[place] for place in pattern.by_turns])
        one = "it" if len(pattern.by_turns) == 1 else "them"
        cause = f"turns on the cores hold {one} up for longer than that, so no cause stands out"
        return f"Ranks wait {wait} for each other, most for {held_up}; {cause}."
    if pattern.kind == JITTER:
        return f"Ranks wait {wait} for each other by turns; no cause stands out."
    assert pattern.kind == NOTHING
    if not len(job.matched):
        what = "could be matched between the ranks" if len(job.table) else "was recorded"
        return f"No collective {what}, so who waits for whom is not known."
    read = "Ranks wait for each other"
    if job.world_size is not None and len(job) < job.world_size:
        read = f"The {counted(len(job), 'rank')} that were read, of {job.world_size}, wait for each other"
    return f"{read} for less than 1 % of the step."


def _compared(job: Job, pattern: Pattern) -> str:
    """What takes longer on the late ranks, beside the same on the others."""
    cause = main_cause(pattern.more_ns)
    if cause is None or cause == BEFORE_OWNER:
        return ""
    theirs, others = owner_times(job, cause, pattern.late)
    if theirs <= others:
        more = sum(ns for owner, ns in pattern.more_ns.items() if cause in (owner, _bucket(owner)))
        return f": {owner_words(cause)} takes {duration(more / job.second_ns)} longer there"
    return f": {owner_words(cause)} takes {duration(theirs)} there, {duration(others)} on the others"


@once
def owner_times(job: Job, owner: str, late: tuple[int, ...]) -> tuple[float, float]:
    """Seconds per step that an owner, or all of a bucket, has on these ranks (their mean), and on the median of the others."""
    mine = np.array([owner in (one, _bucket(one)) for one in job.accounts.owners], np.bool_)
    per_rank = []
    for place, summary in enumerate(job.summaries):
        judged = job.accounts.step[place][summary.steady]
        per_rank.append(float(judged[:, mine].sum(axis=1).mean()) / job.second_ns if len(judged) else 0.0)
    rest = sorted(value for place, value in enumerate(per_rank) if place not in late)
    theirs = [per_rank[place] for place in late]
    middle = (rest[(len(rest) - 1) // 2] + rest[len(rest) // 2]) / 2 if rest else 0.0
    return sum(theirs) / max(len(theirs), 1), middle
