"""Whether ranks may be late only because others had the cores: who has to wait for a core is the machine's choice, not theirs.

Ranks that share cores take turns on them, and the turns can fall on the same place of every recorded step: then the same rank is
late in all of them. Operators that are quick in one step and slow in another were held up; a lateness below that proves nothing.
Over the steps without the profiler the kernel counts for how long training had a core or stood in line for one: a rank that does
more, or whose cores are more crowded, needs more of that too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from statistics import fmean

from mfu_doctor.job.across.job import Job

_MOST = 0.5  # of a lateness


def may_be_turns(job: Job, late: Sequence[int], more_ns: Mapping[str, float]) -> bool:
    """Whether nothing shows that these ranks do more than the others.

    Args:
        job: the job.
        late: places of the ranks that come last.
        more_ns: per step, what takes longer on them, by owner.
    """
    theirs = [job.summaries[place].cores for place in late]
    operators = _longer(more_ns, [one.operators for one in theirs], fmean(one.operators_held_up_ns for one in theirs))
    host = _longer(more_ns, [one.host for one in theirs], fmean(one.host_held_up_ns for one in theirs))
    doubted = operators + host
    if doubted <= _MOST * sum(more_ns.values()):
        return False
    needed = [one.cores.needed_s for one in job.summaries if one.cores.needed_s is not None]
    others = [seconds for place, seconds in enumerate(needed) if place not in late]
    if len(needed) < len(job) or not others:
        return True
    more_s = min(needed[place] for place in late) - max(others)
    return more_s * job.second_ns <= _MOST * doubted


def _longer(more_ns: Mapping[str, float], owners: Iterable[tuple[str, ...]], held_up_ns: float) -> float:
    """What these owners take longer; 0 if that is more than they are held up."""
    more = sum(more_ns.get(owner, 0.0) for owner in dict.fromkeys(chain.from_iterable(owners)))
    return more if 0.0 < more <= held_up_ns else 0.0
