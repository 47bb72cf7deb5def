"""held-queue: the device is idle while work is queued, and what held the work is said as far as the trace tells."""

from __future__ import annotations

import pytest

from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.rules.device.held_queue import held_queue
from tests.rules.judging import found, price_us, run_of, silent
from tests.timeline import Timeline

SIDE = 20


def held(us: int, *, steps: int = 9, wait: str = "", graph: bool = False, name: str = "aten::mm") -> Timeline:
    """Steps of 4 ms of kernels that the host has launched long before; one of them is held for `us`."""
    drawn = Timeline()
    for _ in range(steps):
        with drawn.step():
            for _ in range(10):
                drawn.op("aten::linear", kernel=200)
            ready = max(drawn.free.values()) + us
            if wait:
                with drawn.span(wait, "cpu_op"):
                    drawn.call("cudaStreamWaitEvent", 2, correlation=drawn._id())
            launch = "cudaGraphLaunch" if graph else "cudaLaunchKernel"
            drawn.op(name, kernel=2000, ready=ready, launch=launch)
    return drawn


@pytest.mark.parametrize(
    ("how", "said", "fix"),
    [
        ({"wait": "train_step"}, "an event of other work (cudaStreamWaitEvent)", "wait_stream"),
        ({"wait": "c10d::wait_"}, "waits for a collective, so for other ranks", "all ranks"),
        ({"name": "ncclDevKernel_AllReduce"}, "waits for a collective, so for other ranks", "all ranks"),
        ({"graph": True}, "a CUDA graph was launched and starts late", "graph"),
        ({}, "nothing in this trace shows by what", "nvidia-smi"),
    ],
)
def test_a_held_queue_is_told_with_its_holder(how: dict[str, object], said: str, fix: str) -> None:
    finding = found(held_queue, run_of(held(6000, **how)))  # type: ignore[arg-type]
    assert "held 60 % of the step" in finding.summary
    assert said in finding.summary
    assert fix in finding.fix


def test_a_large_hold_is_a_finding_without_a_prediction() -> None:
    """60 % of the step: what would let go is not in the trace."""
    run = run_of(held(6000))
    assert run.replay.error == pytest.approx(0, abs=0.01)
    assert not run.replay.trusted
    report = diagnose(run.trace)
    assert report.bound is None
    first = report.failed[0]
    assert (first.rule, first.saving) == ("held-queue", None)


def test_the_largest_loss_comes_first_where_nothing_is_predicted() -> None:
    """A synchronisation a step is easier to remove, and takes far less."""
    drawn = Timeline()
    for _ in range(9):
        with drawn.step():
            drawn.op("aten::mm", kernel=2000, ready=drawn.now + 6014)
            drawn.item()
            drawn.python(200)
    report = diagnose(run_of(drawn).trace)
    assert not report.replay.trusted
    assert [found.rule for found in report.failed][:2] == ["held-queue", "device-sync"]


def test_a_small_hold_is_priced_between_half_and_all_of_it() -> None:
    run = run_of(held(300, wait="train_step"))
    assert run.replay.trusted
    price = price_us(held_queue, run)
    assert price.low_ns == pytest.approx(150, abs=15)
    assert price.high_ns == pytest.approx(300, abs=30)


def test_a_hold_that_nothing_explains_promises_nothing() -> None:
    price = price_us(held_queue, run_of(held(300)))
    assert price.low_ns == 0
    assert price.high_ns == pytest.approx(300, abs=30)


def test_in_a_job_of_several_ranks_the_traces_are_compared() -> None:
    drawn = held(6000)
    drawn.header["distributedInfo"] = {"rank": 3, "world_size": 16, "backend": "nccl"}
    assert "all ranks" in found(held_queue, run_of(drawn)).fix


def test_a_queue_behind_a_busy_device_is_no_finding() -> None:
    silent(held_queue, run_of(held(0)))


def test_pauses_between_kernels_are_no_holds() -> None:
    silent(held_queue, run_of(held(60)))


def test_a_hold_beside_larger_losses_is_no_finding() -> None:
    """300 us are held in steps in which the device waits 5 ms for data."""
    drawn = Timeline()
    for _ in range(9):
        with drawn.step():
            drawn.sync()
            drawn.fetch(5000)
            drawn.op("aten::mm", kernel=2000, ready=drawn.now + 314)
    silent(held_queue, run_of(drawn))


def test_ranges_that_a_small_hold_widens_say_why() -> None:
    """300 of 4300 us: the replay is right, and what it repeats is not known to stay."""
    report = diagnose(run_of(held(300)).trace)
    assert report.replay.error == pytest.approx(0, abs=0.01)
    assert "for 7.0 % of the step queued work is held by what this trace does not show" in str(report.replay.reason)
    assert str(report.replay.reason).endswith("ranges are wider by this")
