"""Means over the latest steps, by hand."""

from __future__ import annotations

from mfu_doctor.meter.peak import DevicePeak
from mfu_doctor.meter.reading import Measured, MeterReading
from mfu_doctor.meter.step_work import StepWork
from mfu_doctor.meter.window import Step, Window

MS = 1_000_000
PEAK = DevicePeak(device="a card", dtype="bf16", flops=1e12, source="a datasheet")
WORK = StepWork(flops=2e9, ideal_s=0.002, peak=PEAK)


def test_means_are_over_the_steps_of_which_a_value_is_known() -> None:
    window = Window((Step(10 * MS, 1 * MS, WORK, 4), Step(30 * MS, 3 * MS, None, 4, 100)))
    assert (window.step_s, window.wait_s) == (0.020, 0.002)
    assert window.mfu == 0.002 / 0.010
    assert (window.flops, window.flops_s) == (2e9, 2e9 / 0.010)
    assert (window.samples_s, window.tokens_s) == (8 / 0.040, 100 / 0.030)


def test_an_empty_window_knows_nothing() -> None:
    window = Window()
    assert [window.step_s, window.wait_s, window.mfu, window.flops_s, window.samples_s] == [None] * 5


def test_a_reading_is_the_line_of_nanogpt() -> None:
    reading = MeterReading(
        3820, Measured(steps=(Step(33_270_000, 0, StepWork(flops=1.0, ideal_s=0.003537, peak=PEAK), number=3820),))
    )
    assert str(reading) == "time 33.27ms, mfu 10.63%"
    assert reading.smoothing == "plain mean of the last 1 step, by the host's clock"
    assert reading.scalars == {"mfu": reading.mfu, "tflops": reading.tflops, "step_time_s": 0.03327}


def test_a_mean_says_which_steps_it_is_of() -> None:
    steps = (Step(MS, 0, number=5), Step(MS, 0, number=7))
    smoothing = MeterReading(8, Measured(steps=steps, last_ns=MS)).smoothing
    assert (
        smoothing
        == "plain mean of 2 of the last 4 steps, those without a recording or an evaluation, by the host's clock"
    )


def test_a_window_in_which_no_step_ran_as_usual_has_no_mean() -> None:
    reading = MeterReading(20, Measured(last_ns=5 * MS, work=WORK, fed=True))
    assert (reading.window, reading.step_time, reading.mfu, reading.scalars) == (0, None, None, {})
    assert reading.last_step_time == 0.005
    assert reading.reasons["mfu"] == "no step of the window ran as usual: they were recorded, or held an evaluation"


def test_samples_that_nothing_tells_have_a_reason() -> None:
    reading = MeterReading(3, Measured(steps=(Step(MS, 0, WORK),), last_ns=MS, fed=True))
    assert reading.reasons["samples_per_second"].endswith("tell the samples of a batch: pass step(samples=...)")


def test_what_is_not_known_says_why() -> None:
    nothing = MeterReading(0)
    assert str(nothing) == "time -, mfu -"
    assert nothing.reasons["mfu"] == "no whole step has ended yet: the first call of step() starts the clock"
    no_peak = DevicePeak(device="a card", dtype=None, flops=None, reason="it has no row")
    unknown = StepWork(flops=2e9, ideal_s=None, peak=no_peak)
    reading = MeterReading(1, Measured(steps=(Step(MS, 0, unknown),), work=unknown))
    assert (reading.mfu, reading.reasons["mfu"], reading.flops_per_step) == (None, "it has no row", 2e9)


def test_more_than_the_peak_is_an_error_and_no_number() -> None:
    reading = MeterReading(1, Measured(steps=(Step(MS, 0, WORK),), work=WORK))
    assert reading.mfu is None
    assert reading.reasons["mfu"].startswith("200% of the peak is not possible")
