"""Settings that some ranks have of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from mfu_doctor.job.across.job import Job

# What differs between ranks by design.
_OWN = ("rank", "local rank", "pid", "port", "device index")


def differing(job: Job, late: Collection[int]) -> list[tuple[str, str, str]]:
    """Settings that all late ranks have and none of the others: name, their value, the value of the others."""
    theirs = [job.summaries[place].options for place in late]
    others = [one.options for place, one in enumerate(job.summaries) if place not in late]
    if not theirs or not others:
        return []
    found = []
    for name in sorted({name for options in (*theirs, *others) for name in options}):
        mine = {options.get(name) for options in theirs}
        rest = Counter(options.get(name) for options in others)
        usual = rest.most_common(1)[0][0]
        if name not in _OWN and len(mine) == 1 and not mine & set(rest) and usual is not None and None not in mine:
            found.append((name, str(next(iter(mine))), str(usual)))
    return found
