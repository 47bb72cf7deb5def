"""What the threads of training had of the cores. Written into the trace file with the other facts."""

from __future__ import annotations

from msgspec import Struct


class CoreTurns(Struct, frozen=True, kw_only=True):
    """What the threads of training had of the cores over the timed steps: seconds per second of wall time.

    A thread waits while it could run and others have the cores. The training thread counts together with those of autograd, which
    take turns with it. The threads of the pool share the work of one operator.
    """

    training_ran: float
    training_waited: float
    pool_threads: int = 0  # threads that Python did not start and that ran
    pool_ran: float = 0.0  # of all of them; waiting for work in a loop counts
    pool_waited: float = 0.0  # of all of them
    pool_most_waited: float = 0.0  # of the one that waited longest
    python_ran: float | None = (
        None  # of the other threads that Python started, the recorder's left out; None: not recorded
    )
    python_busiest: str | None = None  # name of the one that ran longest
