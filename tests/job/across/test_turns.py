"""Ranks that share cores are late by turns: one is blamed for doing more only if that is known."""

from __future__ import annotations

import pytest

from mfu_doctor.job.across.patterns import patterns_of
from mfu_doctor.job.across.words import sentence_of
from mfu_doctor.job.summary import Cores
from mfu_doctor.result.job import JITTER, STRAGGLER
from tests.job.drawing import US, DrawnJob
from tests.rules.ranks.asking import job_of

LATE = 300  # us a step


def cores(operators: float, host: float = 0.0, needed: float | None = None) -> Cores:
    """What a rank had, in us of a step."""
    return Cores(
        operators=("compute: matmul",),
        operators_held_up_ns=operators * US,
        host=("python",),
        host_held_up_ns=host * US,
        needed_s=None if needed is None else needed / 1e6,
    )


def kind_of(owner: str, held_up: tuple[float, float], needed: dict[int, float] | None = None) -> str:
    """What is said of four ranks of which rank 1 is late in every step; times in us.

    Args:
        owner: what takes longer there.
        held_up: for how long turns hold each rank's operators up, and its Python.
        needed: what each rank needs of the cores in a step without the profiler; None: not recorded.
    """
    drawn = DrawnJob(4)
    for _ in range(6):
        drawn.step()
        drawn.work(1000)
        drawn.work({1: LATE}, owner)
        drawn.collective(50)
    for rank in range(4):
        drawn.cores[rank] = cores(*held_up, None if needed is None else needed[rank])
    (found,) = patterns_of(job_of(drawn))
    return found.kind


@pytest.mark.parametrize(
    ("owner", "held_up", "kind"),
    [
        ("compute: matmul", (0, 0), STRAGGLER),  # on cores of its own
        ("compute: matmul", (LATE - 1, 0), STRAGGLER),  # turns explain less than it is late
        ("compute: matmul", (LATE + 1, 0), JITTER),
        ("python", (LATE + 1, 0), STRAGGLER),  # operators that differ from step to step say nothing about Python
        ("python", (LATE + 1, LATE + 1), JITTER),
        ("data_loading", (LATE + 1, LATE + 1), STRAGGLER),  # who waits for storage needs no core
    ],
)
def test_a_lateness_below_what_turns_do_is_no_cause(owner: str, held_up: tuple[float, float], kind: str) -> None:
    assert kind_of(owner, held_up) == kind


@pytest.mark.parametrize(
    ("theirs", "kind"),
    [
        (1300, STRAGGLER),  # it needs as much more of the cores as it is late
        (1300 - LATE // 2, JITTER),  # half of it
        (1000, JITTER),
    ],
)
def test_many_steps_without_the_profiler_decide(theirs: float, kind: str) -> None:
    assert kind_of("compute: matmul", (1000, 0), {0: 980, 1: theirs, 2: 1000, 3: 1000}) == kind


def test_the_sentence_says_why_nobody_is_blamed() -> None:
    drawn = DrawnJob(2)
    for _ in range(6):
        drawn.step()
        drawn.work({0: 1300, 1: 1000})
        drawn.collective(50)
    for rank in range(2):
        drawn.cores[rank] = cores(1000)
    job = job_of(drawn)
    assert sentence_of(job, patterns_of(job)[0]) == (
        "Ranks wait 150 us a step (11 %) for each other, most for rank 0; turns on the cores hold it up for longer than that, "
        "so no cause stands out."
    )
