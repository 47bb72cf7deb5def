"""slow-pcie-link: fires where generation or width is below the best, and prices copies over the link alone."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.device.slow_pcie_link import slow_pcie_link
from tests.rules.judging import close, found, price_us, silent
from tests.rules.sampling import sampled_run
from tests.timeline import Timeline

COPY_US = 400
BEST: dict[str, Any] = {"pcie_gen": 4, "pcie_gen_max": 4, "pcie_width": 16, "pcie_width_max": 16}


def uploads(**link: Any) -> Run:
    """Steps in which an upload, a copy inside the device and a product follow one another on one stream."""
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            for name in ("Memcpy HtoD (Pinned -> Device)", "Memcpy DtoD (Device -> Device)"):
                drawn.op("aten::copy_", kernel=COPY_US, kernel_name=name, cat="gpu_memcpy", launch="cudaMemcpyAsync")
            drawn.op("aten::mm", kernel=600)
    return sampled_run(drawn=drawn, **(BEST | link))


@pytest.mark.parametrize(
    ("link", "factor"),
    [
        ({"pcie_width": 8}, 1 / 2),
        ({"pcie_gen": 3}, 1 / 2),
        ({"pcie_gen": 1}, 1 / 8),
        ({"pcie_gen": 3, "pcie_width": 8}, 1 / 4),
    ],
    ids=["half the lanes", "one generation", "three generations", "both"],
)
def test_uploads_scale_with_the_bandwidth_of_the_link(link: dict[str, int], factor: float) -> None:
    price = price_us(slow_pcie_link, uploads(**link))
    assert price.low_ns == close(COPY_US * (1 - factor) / 2)
    assert price.mid_ns == price.high_ns == close(COPY_US * (1 - factor))


def test_the_summary_names_both_links() -> None:
    summary = found(slow_pcie_link, uploads(pcie_gen=1)).summary
    assert summary == "PCIe link runs at Gen1 x16 instead of Gen4 x16: 12 % of its maximum bandwidth"


def test_without_copies_over_the_link_the_gain_is_nothing() -> None:
    assert price_us(slow_pcie_link, sampled_run(**(BEST | {"pcie_width": 8}))).high_ns == 0


def test_a_link_at_its_best_is_no_finding() -> None:
    silent(slow_pcie_link, uploads())


@pytest.mark.parametrize("missing", sorted(BEST))
def test_an_unread_link_cannot_be_judged(missing: str) -> None:
    assert isinstance(slow_pcie_link.judge(uploads(**{missing: None})), Skip)
