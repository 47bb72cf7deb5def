"""unbenchmarked-convolution: a setting, and what it may give."""

from __future__ import annotations

import pytest

from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.rules.kernels.unbenchmarked_convolution import unbenchmarked_convolution
from tests.rules.drawing import between
from tests.rules.judging import close, price_us, run_of, silent


@pytest.mark.parametrize(("benchmark", "fires"), [(False, True), (True, False)])
def test_unbenchmarked_convolutions_are_a_hint(benchmark: bool, fires: bool) -> None:
    drawn = between(("aten::cudnn_convolution", 1_000, "implicit_convolve_sgemm"))
    run = run_of(drawn, precision=PrecisionFacts(cudnn_benchmark=benchmark))
    if fires:
        assert price_us(unbenchmarked_convolution, run).high_ns == close(200)
    else:
        silent(unbenchmarked_convolution, run)
