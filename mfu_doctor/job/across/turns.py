"""Whether ranks may be late only because others had the cores: who has to wait for a core is the machine's choice, not theirs.

Ranks that share cores take turns on them, and the turns can fall on the same place of every recorded step: then the same rank is
late in all of them. Operators that are quick in one step and slow in another were held up; a lateness below that proves nothing.
Over the steps without the profiler the kernel counts for how long training had a core or stood in line for one: a rank that does
more, or whose cores are more crowded, needs more of that too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    cores = [one.cores for one in job.summaries]
    on_cores = sum(more_ns.get(owner, 0.0) for owner in dict.fromkeys(o for place in late for o in cores[place].owners))
    held_up = fmean(cores[place].held_up_ns for place in late)
    if not _MOST * sum(more_ns.values()) < on_cores <= held_up:
        return False
    needed = [one.needed_s for one in cores if one.needed_s is not None]
    others = [seconds for place, seconds in enumerate(needed) if place not in late]
    if len(needed) < len(cores) or not others:
        return True
    more_s = min(needed[place] for place in late) - max(others)
    return more_s * job.second_ns <= _MOST * on_cores
