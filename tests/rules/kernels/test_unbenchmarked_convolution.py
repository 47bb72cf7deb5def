"""unbenchmarked-convolution: a setting, and what it may give."""

from __future__ import annotations

import pytest

from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.rules.kernels.unbenchmarked_convolution import unbenchmarked_convolution
from tests.rules.drawing import between
from tests.rules.judging import close, price_us, run_of, silent
from tests.timeline import Timeline


def convolving(us: int) -> Timeline:
    """Steps of 2 ms of other computation and so many microseconds of convolution."""
    return between(("aten::cudnn_convolution", us, "implicit_convolve_sgemm"))


@pytest.mark.parametrize(("benchmark", "fires"), [(False, True), (True, False)])
def test_unbenchmarked_convolutions_are_a_hint(benchmark: bool, fires: bool) -> None:
    run = run_of(convolving(3_000), precision=PrecisionFacts(cudnn_benchmark=benchmark))
    if fires:
        assert price_us(unbenchmarked_convolution, run).high_ns == close(600)
    else:
        silent(unbenchmarked_convolution, run)


def test_convolutions_that_save_too_little_at_the_low_end_are_no_finding() -> None:
    """2 % of 1 ms is less than 1 % of a step of 3 ms: this must not depend on replay, which may be untrusted."""
    run = run_of(convolving(1_000), precision=PrecisionFacts(cudnn_benchmark=False))
    silent(unbenchmarked_convolution, run)
