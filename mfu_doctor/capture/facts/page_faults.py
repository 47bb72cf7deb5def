"""Page faults of this process: how many there were, and what one costs on this machine.

An allocator that gives memory back to the system after each step pays for it again at the next: every page is faulted in and
cleared. Neither a profiler nor a trace shows it, and a profiler's own buffers often stop it while they record.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable

_PAGES = 1024  # 4 MiB of 4 KiB pages: some milliseconds a try
_TRIES = 5  # the quickest counts: whatever else happens only adds
_FEWEST = 0.9  # faults for each page touched; with fewer, huge pages are in play and one fault is not one page


def faults_so_far() -> int | None:
    """Page faults of this process that needed no disk; None where the system does not count them."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def fault_seconds(
    clock: Callable[[], float] = time.perf_counter, count: Callable[[], int | None] = faults_so_far
) -> float | None:
    """What a page fault costs here: the first touch of fresh pages against the second; None where pages do not fault singly.

    Args:
        clock: seconds.
        count: page faults of this process so far, None where they are not counted.
    """
    return min((cost for _ in range(_TRIES) if (cost := _one_try(clock, count)) is not None), default=None)


def _one_try(clock: Callable[[], float], count: Callable[[], int | None]) -> float | None:
    before = count()
    if before is None:
        return None
    # private, as an allocator's memory is: a page shared between processes costs more
    with mmap.mmap(-1, _PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as fresh:
        first = _touch(fresh, clock)
        faults = (count() or before) - before
        again = _touch(fresh, clock)
    if faults < _FEWEST * _PAGES or first <= again:
        return None
    return (first - again) / faults


def _touch(pages: mmap.mmap, clock: Callable[[], float]) -> float:
    """Write to each page; the seconds it took."""
    begin = clock()
    for at in range(0, len(pages), mmap.PAGESIZE):
        pages[at] = 1
    return clock() - begin
