"""partial-flop-count: matrix kernels without a formula make MFU a lower bound."""

from __future__ import annotations

from mfu_doctor.rules.trace.partial_flop_count import partial_flop_count
from tests.rules.judging import caution, run_of, silent
from tests.timeline import Timeline


def test_partial_flop_count() -> None:
    drawn = Timeline()
    for _ in range(7):
        with drawn.step():
            drawn.op("aten::mm", kernel=1_000, dims=[[4096, 4096], [4096, 4096]], types=["float", "float"])
            drawn.op("custom::product", kernel=300, kernel_name="ampere_sgemm_128x128_tn")
    assert "lower bound" in caution(partial_flop_count, run_of(drawn))


def test_a_small_product_without_a_formula_changes_little() -> None:
    drawn = Timeline()
    for _ in range(7):
        with drawn.step():
            drawn.op("aten::mm", kernel=1_000, dims=[[512, 512], [512, 512]], types=["float", "float"])
            drawn.op("custom::product", kernel=80, kernel_name="ampere_sgemm_128x128_tn")
    silent(partial_flop_count, run_of(drawn))
