"""The replay in terms of collectives is the replay: with ends as recorded, and with collectives that take other times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mfu_doctor.analysis.replay.model import Timeline as Recorded
from mfu_doctor.analysis.replay.walk import Walk, walk
from mfu_doctor.analysis.run import Run
from mfu_doctor.job.rank.collectives import find_collectives
from mfu_doctor.job.rank.reach import Place, Scale, place_collectives, reach_of
from mfu_doctor.job.summary import Floats, Reach
from tests.rules.drawing import collective, compute, upload, wait_for_collectives
from tests.timeline import Timeline
from tests.traces import real_run

REAL = (
    "v100_dlrm_8ranks/rank0",
    "v100_dlrm_8ranks/rank7",
    "two_ranks/rank1",
    "a100_resnet50_ddp_rank0of2",
    "mi300x_resnet_checkpoint_rank0of8",
    "cpu_gloo_rank34of300",
)
CLOSE_NS = 1e-3


def reduced(run: Run) -> tuple[Recorded, Place, Reach]:
    found, timeline = find_collectives(run), run.replay.timeline
    place = place_collectives(timeline, found, run.activity.row)
    return timeline, place, reach_of(timeline, place, found, Scale(run.trace.origin_ns, 1e9, np.zeros(0, np.int64)))


def with_collectives(timeline: Recorded, place: Place, lasts: Floats) -> Recorded:
    """The timeline with other durations of its collectives."""
    inside = place.position >= 0
    if place.on_device:
        duration = timeline.operations.duration.copy()
        duration[place.position[inside]] = lasts[inside]
        return replace(timeline, operations=replace(timeline.operations, duration=duration))
    cost = timeline.calls.cost.copy()
    cost[place.position[inside]] = lasts[inside]
    return replace(timeline, calls=replace(timeline.calls, cost=cost))


def assert_same(timeline: Recorded, place: Place, reach: Reach, lasts: Floats, *, origin: int) -> None:
    """Arrivals and steps are those of the scalar replay of a timeline whose collectives take so long."""
    changed = with_collectives(timeline, place, lasts)
    returned, starts, _ = Walk(changed).run()
    at = reach.alone(lasts)
    point = np.flatnonzero(reach.collective >= 0)
    which = reach.collective[point]
    at_place = place.position[which]
    begun = np.array(starts)[at_place] if place.on_device else np.array(returned)[at_place] - lasts[which]
    np.testing.assert_allclose(at[point] + (reach.begin - origin), begun, rtol=0, atol=CLOSE_NS)
    assert reach.mean_step_ns(at) == pytest.approx(walk(changed), rel=1e-9)


def check(run: Run, factors: list[float]) -> None:
    timeline, place, reach = reduced(run)
    factor = np.resize(np.array(factors), len(reach.lasts_ns))
    for lasts in (reach.lasts_ns, reach.lasts_ns * factor, np.zeros(len(factor))):
        assert_same(timeline, place, reach, lasts, origin=run.trace.origin_ns)
    assert sorted(reach.collective[reach.collective >= 0].tolist()) == np.flatnonzero(reach.inside).tolist()
    assert (reach.source < np.repeat(np.arange(len(reach.since_ns)), np.diff(reach.pointer))).all()


@pytest.mark.parametrize("name", REAL)
def test_the_replay_of_a_real_rank_is_reproduced(name: str) -> None:
    check(real_run(name), [0.2, 3.0, 1.0, 0.0, 7.5])


WORK = st.sampled_from(["compute", "collective", "early collective", "wait", "sync", "item", "upload", "python"])


def draw(work: list[tuple[str, int]]) -> Timeline:
    """Four steps of this work."""
    drawn = Timeline()
    for _ in range(4):
        with drawn.step():
            compute(drawn, 50)
            for kind, us in work:
                match kind:
                    case "compute":
                        compute(drawn, us)
                    case "collective" | "early collective":
                        collective(drawn, us, size=1 << 20, after=kind == "collective")
                    case "wait":
                        wait_for_collectives(drawn, us)
                    case "sync":
                        drawn.sync()
                    case "item":
                        drawn.item()
                    case "upload":
                        upload(drawn, us, 1 << 20)
                    case "python":
                        drawn.python(us)
    return drawn


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(WORK, st.integers(1, 400)), max_size=12),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 4.0]), min_size=1, max_size=5),
)
def test_the_replay_of_any_rank_is_reproduced(work: list[tuple[str, int]], factors: list[float]) -> None:
    check(Run(draw(work).trace()), factors)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 400)), min_size=1, max_size=8),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 4.0]), min_size=1, max_size=5),
)
def test_a_cpu_only_rank_is_reproduced(work: list[tuple[bool, int]], factors: list[float]) -> None:
    """Collectives of gloo are spans on threads of their own."""
    drawn = Timeline(device=None)
    for _ in range(4):
        with drawn.step():
            drawn.op("aten::mm", host=200)
            for waits, us in work:
                drawn.op("c10d::allreduce_", host=10)
                drawn.add("user_annotation", "gloo:all_reduce", drawn.now, us, tid=900)
                if waits:
                    drawn.python(us + 2)
                drawn.op("aten::mm", host=us)
    check(Run(drawn.trace()), factors)


def test_hidden_collectives_are_no_burden() -> None:
    """Each stays a source of all that comes after it, since a late peer could bring it to light; relays keep that short."""
    hidden = [("compute", 400), ("early collective", 10), ("early collective", 10), ("wait", 50)] * 25
    _, _, reach = reduced(Run(draw(hidden).trace()))
    assert len(reach.lasts_ns) == 200
    assert len(reach.since_ns) < 400
    assert np.diff(reach.pointer).max() <= 4
