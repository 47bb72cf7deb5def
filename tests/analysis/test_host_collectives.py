"""A collective of gloo is over when the thread that waited for it goes on, whenever its own thread writes that down."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION
from tests.timeline import Timeline

US = 1000


def spans(*, waited: int, goes_on: int, waits_again: int = 0, ends: int) -> list[tuple[int, int]]:
    """Start and end in us of a collective during which training waits, works, waits again, and works on."""
    drawn = Timeline(device=None)
    with drawn.step():
        drawn.op("aten::mm", host=500)
        drawn.op("c10d::allreduce_", host=10)
        begin = drawn.now
        drawn.add("user_annotation", "gloo:all_reduce", begin, ends, tid=900)
        drawn.python(waited)
        drawn.op("aten::add_", host=goes_on)
        drawn.python(waits_again)
        drawn.op("aten::mm", host=2000)
    return collectives_in(drawn, begin)


def collectives_in(drawn: Timeline, begin: int) -> list[tuple[int, int]]:
    """Start and end of the collectives that run on threads of their own, in us from a moment."""
    activity = Run(drawn.trace()).activity
    mine = (activity.kind == COMMUNICATION) & (activity.track != activity.track[0])
    found = zip(activity.start[mine].tolist(), activity.end[mine].tolist(), strict=True)
    return [((a - begin * US) // US, (b - begin * US) // US) for a, b in found]


@pytest.mark.parametrize(
    ("drawn", "over"),
    [
        ({"waited": 1000, "goes_on": 300, "ends": 1200}, 1000),  # written down 200 us late
        ({"waited": 1000, "goes_on": 300, "ends": 990}, 990),  # as it should be
        (
            {"waited": 1000, "goes_on": 300, "waits_again": 500, "ends": 1790},
            1790,
        ),  # another collective was waited for first
        ({"waited": 50, "goes_on": 300, "ends": 340}, 340),  # it ran beside computation
    ],
)
def test_a_collective_is_over_when_training_goes_on(drawn: dict[str, int], over: int) -> None:
    assert spans(**drawn) == [(0, over)]


@pytest.mark.parametrize(
    ("waits_again", "second_over"),
    [
        (500, 3800),  # training went on after the first, and waited for the second
        (0, 3000),  # both were over when it went on
    ],
)
def test_training_waits_for_one_bucket_after_the_other(waits_again: int, second_over: int) -> None:
    """Both were written down late: the long pause is the first one's, and the second ends with a pause of its own."""
    drawn = Timeline(device=None)
    with drawn.step():
        drawn.op("aten::mm", host=500)
        begin = drawn.now
        drawn.add("user_annotation", "gloo:all_reduce", begin, 3100, tid=900)
        drawn.add("user_annotation", "gloo:all_reduce", begin + 1, 4799, tid=901)
        drawn.python(3000)
        drawn.op("aten::add_", host=300)
        drawn.python(waits_again)
        drawn.op("aten::mm", host=2000)
    assert collectives_in(drawn, begin) == [(0, 3000), (1, second_over)]
