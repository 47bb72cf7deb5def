"""Growth of the usual step over a run: told from noise, from a step up, from a slower machine, and found behind resets."""

from __future__ import annotations

import numpy as np
import pytest

from mfu_doctor.analysis.views.growth import Growth, growth_of
from mfu_doctor.facts import Facts
from mfu_doctor.facts.whole_run import LineTime, StepCourse

PARTS = np.arange(128)
NOISE = np.random.default_rng(3).normal(0.0, 0.002, 128)
COMPUTE = LineTime(place="train.py:9", function="compute", library="torchmetrics", short_s=0.005, long_s=0.045)
MODEL = LineTime(place="train.py:5", function="backward", library="torch", short_s=0.025, long_s=0.026)


def growth(level: object, lines: tuple[LineTime, ...] = (MODEL, COMPUTE)) -> Growth | None:
    parts = tuple(float(s) for s in np.asarray(level, np.float64))
    return growth_of(Facts(course=StepCourse(steps=10, parts_s=parts, lines=lines)))


def test_a_step_that_grows_to_the_end_is_known_at_both_ends_and_in_its_mean() -> None:
    found = growth(0.026 + 0.0004 * PARTS + NOISE)
    assert found is not None
    assert found.first_s == pytest.approx(0.026, abs=0.001)
    assert found.last_s == pytest.approx(0.0768, abs=0.001)
    assert found.step_s == pytest.approx(0.00004, rel=0.03)  # a part has ten steps
    assert abs(found.step_s - 0.00004) < 3 * found.error_s
    assert found.excess_s == pytest.approx(0.0254, abs=0.001)
    assert (found.rises, found.lines) == (1, (COMPUTE,))


def test_growth_that_is_reset_with_each_epoch_is_no_flat_run() -> None:
    found = growth(0.026 + 0.0016 * (PARTS % 32) + NOISE)
    assert found is not None
    assert found.rises == 4
    assert found.first_s == pytest.approx(0.026, abs=0.001)
    assert found.last_s == pytest.approx(0.0756, abs=0.001)


@pytest.mark.parametrize("shape", [0.7, 2.0], ids=["less and less", "more and more"])
def test_what_does_not_grow_in_a_straight_line_begins_where_its_first_steps_are(shape: float) -> None:
    found = growth(0.010 + 0.040 * (PARTS / 128) ** shape + NOISE / 8)
    assert found is not None
    assert found.first_s == pytest.approx(0.010, abs=0.001)


def test_the_beginning_is_that_of_any_rise_one_of_them_may_be_disturbed() -> None:
    disturbed = np.where(PARTS < 6, 0.020, 0.0)
    found = growth(0.015 + 0.003 * (PARTS % 64) ** 0.7 + NOISE / 8 + disturbed)
    assert found is not None
    assert found.rises == 2
    assert found.first_s == pytest.approx(0.015, abs=0.0015)  # its line begins at 20


def test_without_its_line_the_step_has_nothing_of_what_grows() -> None:
    """The line takes 5 ms of the first step already."""
    level = 0.030 + 0.001 * np.arange(126)
    thirds = [float(part.mean()) for part in np.split(level, 3)]
    line = LineTime(place="train.py:9", short_s=thirds[0] - 0.025, long_s=thirds[2] - 0.025)
    model = LineTime(place="train.py:5", short_s=0.025, long_s=0.025)
    found = growth(level, (model, line))
    assert found is not None
    assert found.without_s(line) == pytest.approx(0.025)


def test_a_burst_of_noise_is_no_reset() -> None:
    burst = np.where((PARTS > 100) & (PARTS < 105), 0.06, 0.0)
    found = growth(0.026 + 0.0004 * PARTS + NOISE + burst)
    assert found is not None
    assert found.rises == 1
    assert found.step_s == pytest.approx(0.00004, rel=0.3)


@pytest.mark.parametrize(
    "level",
    [
        pytest.param(0.05 + 5 * NOISE, id="noise"),
        pytest.param(np.where(PARTS > 50, 0.075, 0.05) + NOISE, id="another phase"),
        pytest.param(np.where(PARTS % 32 > 15, 0.075, 0.05) + NOISE, id="a phase of each epoch"),
        pytest.param(0.08 - 0.0002 * PARTS + NOISE, id="falling"),
        pytest.param(0.05 + 0.00001 * PARTS + NOISE, id="too little to matter"),
        pytest.param(0.03 + 0.001 * PARTS[:8], id="a few parts"),
    ],
)
def test_what_is_not_a_line_upwards_is_no_growth(level: object) -> None:
    assert growth(level) is None


def test_a_machine_that_slows_down_makes_all_lines_slower_alike() -> None:
    slower = tuple(
        LineTime(place=line.place, short_s=line.short_s, long_s=1.6 * line.short_s) for line in (MODEL, COMPUTE)
    )
    assert growth(0.030 + 0.0002 * PARTS + NOISE, slower) is None
    assert growth(0.030 + 0.0002 * PARTS + NOISE, slower[:1]) is None


def test_two_lines_can_grow_together() -> None:
    second = LineTime(place="train.py:10", function="compute", library="torchmetrics", short_s=0.004, long_s=0.030)
    found = growth(0.034 + 0.0005 * PARTS + NOISE, (MODEL, second, COMPUTE))
    assert found is not None
    assert [line.place for line in found.lines] == ["train.py:9", "train.py:10"]


def test_where_no_line_was_seen_the_growth_is_known_without_its_place() -> None:
    found = growth(0.026 + 0.0004 * PARTS + NOISE, ())
    assert found is not None
    assert found.lines == ()
