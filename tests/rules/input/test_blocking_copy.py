"""blocking-copy: a pinned copy can hide behind computation; one that does so already is no finding."""

from __future__ import annotations

from mfu_doctor.rules.input.blocking_copy import blocking_copy
from tests.rules.drawing import MEGABYTE, compute, copying, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def test_a_pinned_copy_can_hide_behind_the_computation() -> None:
    # 2 ms of copy and 6 ms of computation take turns; on a stream of its own the copy hides
    price = price_us(blocking_copy, run_of(copying(2_000, 20 * MEGABYTE, 6_000)))
    assert price.mid_ns == close(2_000)
    assert "non_blocking=True" in found(blocking_copy, run_of(copying(2_000, 20 * MEGABYTE, 6_000))).fix


def test_a_copy_on_a_side_stream_is_no_finding() -> None:
    def body(drawn: Timeline) -> None:
        compute(drawn, 6_000)
        drawn.op("aten::copy_", kernel=2_000, kernel_name="Memcpy HtoD (Pinned -> Device)", cat="gpu_memcpy", stream=9)
        drawn.events[-2]["args"]["bytes"] = 20 * MEGABYTE

    silent(blocking_copy, run_of(steps(body, 8)))
