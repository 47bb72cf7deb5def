"""Step times without the profiler, as profile() measured them, evened out over the bursts of the DataLoader.

Workers that are too slow deliver in bursts: one batch each, at about the same time. Then no single step is like the mean step,
but the mean of as many steps as there are workers is.
"""

from __future__ import annotations

from mfu_doctor.facts import Facts


def timed_steps(facts: Facts | None) -> tuple[float, ...]:
    """Un-profiled step times in seconds, evened out over the bursts of the run's loader; empty without a capture."""
    if facts is None:
        return ()
    return evened(facts.timed_steps_s, max((loader.num_workers for loader in facts.loaders), default=0))


def beside_steps(facts: Facts | None) -> tuple[float, ...]:
    """The same of the steps just before the recording, whose work was like the recorded one."""
    if facts is None:
        return ()
    return evened(facts.beside_s, max((loader.num_workers for loader in facts.loaders), default=0))


def evened(times: tuple[float, ...], burst: int) -> tuple[float, ...]:
    """Means of `burst` consecutive times, if that leaves at least three; the times themselves otherwise."""
    if burst < 2 or len(times) < burst + 2:
        return times
    return tuple(sum(times[i : i + burst]) / burst for i in range(len(times) - burst + 1))
