"""uncompiled: eager launching is priced as a compiler would leave it; compiled code is no finding."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.host.uncompiled import uncompiled
from tests.rules.drawing import launches, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def test_eager_launching_is_priced_as_a_compiler_would_leave_it() -> None:
    price = price_us(uncompiled, run_of(launches()))
    assert price.low_ns == close(3_000 * 0.3)
    assert price.mid_ns == close(4_000 * 0.5)


def test_the_steps_that_earn_compiling_back_are_counted() -> None:
    # 2 ms saved a step: half a minute is 15,000 of them
    detail = found(uncompiled, run_of(launches())).detail or ""
    few, many = (int(n.replace(",", "")) for n in detail.removesuffix(" steps").split("after ")[1].split(" to "))
    assert few == pytest.approx(30 / 0.002, rel=0.02)
    assert many == pytest.approx(180 / 0.002, rel=0.02)


def test_compiled_code_is_no_finding() -> None:
    def body(drawn: Timeline) -> None:
        for _ in range(100):
            drawn.op("triton", kernel=10, host=40, kernel_name="triton_poi_fused_add_0")

    silent(uncompiled, run_of(steps(body)))
