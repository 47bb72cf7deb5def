"""slow-link: a collective is priced by the link, and what no link explains is left to the late rank."""

from __future__ import annotations

from mfu_doctor.rules.communication.slow_link import slow_link
from mfu_doctor.rules.contract import Skip
from tests.rules.drawing import MILLION, collective, communicating, compute, wait_for_collectives
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def test_a_collective_at_a_tenth_of_the_link_is_priced_at_four_fifths_of_it() -> None:
    # 64 MiB over 8 ranks: 117 MB on the bus; at 30 GB/s 3.9 ms, at 0.8 * 300 GB/s 0.49 ms
    size = 16 * MILLION
    moved = size * 4 * 2 * 7 / 8
    run = run_of(communicating((size, 3_900)))
    assert price_us(slow_link, run).mid_ns == close(3_900 - moved / (0.8 * 300e9) * 1e6)
    assert price_us(slow_link, run).low_ns == close((3_900 - moved / (0.4 * 300e9) * 1e6) / 2)
    assert "of the NVLink bandwidth" in found(slow_link, run).summary


def test_what_no_link_explains_is_left_to_the_late_rank_but_at_the_high_end() -> None:
    """117 MB in 39 ms are 3 GB/s; through host memory they would take 18.6 ms: only half of that is promised."""
    run = run_of(communicating((16 * MILLION, 39_000)))
    moved = 16 * MILLION * 4 * 2 * 7 / 8
    by_host = moved / (0.8 * 16 * 0.985e9 / 2) * 1e6
    assert price_us(slow_link, run).low_ns == close((by_host - moved / (0.4 * 300e9) * 1e6) / 2)
    assert price_us(slow_link, run).mid_ns == close(by_host - moved / (0.8 * 300e9) * 1e6)
    assert price_us(slow_link, run).high_ns == close(39_000 - moved / (0.9 * 300e9) * 1e6)
    told = found(slow_link, run)
    assert "waiting for a late rank" in (told.detail or "")
    assert told.decides is not None
    assert told.decides.low.endswith("half of it is waiting")  # "if they reach 40 %" was said of half of that
    assert told.decides.high.endswith("no rank is late")


def test_from_one_rank_it_is_asked_whether_one_is_late_or_the_link_slow() -> None:
    """The row said "collectives run at 2.43 GB/s" and told which rank to look for: a reader took the link for the fault."""
    slow, late = (found(slow_link, run_of(communicating((16 * MILLION, us)))) for us in (3_900, 39_000))
    assert slow.summary.endswith("a slow link, if no rank is late")
    assert late.summary.endswith("a late rank or a slow link")
    assert late.fix.startswith("mfu-doctor report DIR ")


def test_a_fast_link_is_no_finding_and_a_network_is_not_judged() -> None:
    silent(slow_link, run_of(communicating((16 * MILLION, 600))))
    assert isinstance(slow_link.judge(run_of(communicating((16 * MILLION, 3_900), ranks=64))), Skip)


def test_cards_whose_link_needs_a_bridge_are_not_judged() -> None:
    drawn = Timeline(device="NVIDIA H100 PCIe")
    for _ in range(4):
        with drawn.step():
            compute(drawn, 2_000)
            collective(drawn, 20_000, size=16 * MILLION)
            wait_for_collectives(drawn)
    assert isinstance(slow_link.judge(run_of(drawn)), Skip)
