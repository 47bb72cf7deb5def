"""offloaded-state: what the optimizer carries over the link is worth its exposed time; batches and activations are no state."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.pricing import Scale, price_findings
from mfu_doctor.facts import MemoryFacts
from mfu_doctor.rules.input.blocking_copy import blocking_copy
from mfu_doctor.rules.input.pageable_copy import pageable_copy
from mfu_doctor.rules.memory.offloaded_state import offloaded_state
from tests.rules.drawing import steps, upload
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

UP, DOWN = "Memcpy HtoD (Pinned -> Device)", "Memcpy DtoH (Device -> Pinned)"
SIDE = 31  # a stream for copies
MB, GB = 1_000_000, 1_000_000_000
STEP = "Optimizer.step#AdamW.step"


def copy(drawn: Timeline, name: str, us: int, size: int, **args: Any) -> int:
    """A copy that blocks nobody, inside its operator."""
    return drawn.op(
        "aten::copy_", kernel=us, kernel_name=name, cat="gpu_memcpy", launch="cudaMemcpyAsync", bytes=size, **args
    )


def swapping(*, down: int = 100 * MB, up: int = 100 * MB, stream: int = 7, mark: str = STEP, **facts: Any) -> Run:
    """Each step 4 ms of computation, then an optimizer that fetches its state (2 ms), updates it and puts it back (3 ms)."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=4_000)
            with drawn.span(mark):
                if up:
                    copy(drawn, UP, 2_000, up, stream=stream)
                drawn.op("aten::_fused_adamw_", kernel=200)
                if down:
                    copy(drawn, DOWN, 3_000, down, stream=stream)
            if stream != 7:
                drawn.op("aten::mm", kernel=9_000)
            drawn.sync("cudaDeviceSynchronize")
    return run_of(drawn, **facts)


def on_host(*, mark: str = STEP, kernel: bool = False, batch: int = 0, loss: bool = False, **facts: Any) -> Run:
    """Each step gradients go down during backward (2 ms), the host updates for 1 ms, parameters come up (1 ms)."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.fetch(20)
            if batch:
                copy(drawn, UP, 500, batch)
            drawn.op("aten::mm", kernel=3_000)
            copy(drawn, DOWN, 2_000, 100 * MB)
            if loss:
                drawn.item()
            drawn.sync()
            with drawn.span(mark):
                drawn.op("aten::_fused_adamw_", host=1_000, kernel=20 if kernel else None)
            copy(drawn, UP, 1_000, 50 * MB)
    return run_of(drawn, **facts)


def memory(free: int) -> MemoryFacts:
    """A device of 80 GB of which so much can still be used below 90 %."""
    return MemoryFacts(total_bytes=80 * GB, reserved_peak_bytes=72 * GB - free)


def test_state_that_is_fetched_and_put_back_is_worth_its_exposed_copies() -> None:
    run = swapping()
    price = price_us(offloaded_state, run)
    assert price.mid_ns == close(2_000 + 3_000)
    assert price.low_ns == close((2_000 + 3_000) / 2)
    assert price.high_ns >= price.mid_ns
    finding = found(offloaded_state, run)
    shown = {e.name: e.value for e in finding.evidence}
    assert shown["to the host"] == shown["to the device"] == 100 * MB
    assert shown["GPU waits for copies"] == pytest.approx(5e-3)
    assert finding.confidence == "hint"
    assert finding.detail == "the state needs 95.4 MiB of GPU memory; free memory was not recorded"
    assert "keep 95.4 MiB" in finding.fix


def test_the_state_is_no_batch_that_should_be_copied_in_another_way() -> None:
    run = swapping()
    silent(blocking_copy, run)
    silent(pageable_copy, run)


def test_copies_that_block_the_host_are_worth_the_same() -> None:
    """Waiting for a copy costs no more than the copy: what comes after it on the stream is issued in time."""

    def body(drawn: Timeline) -> None:
        drawn.op("aten::mm", kernel=4_000)
        with drawn.span(STEP):
            upload(drawn, 2_000, 100 * MB, pinned=False)
            drawn.op("aten::_fused_adamw_", kernel=200)
            copy(drawn, DOWN, 3_000, 100 * MB)
            drawn.sync()

    price = price_us(offloaded_state, run_of(steps(body)))
    assert price.mid_ns == close(2_000 + 3_000)
    assert price.high_ns == close(2_000 + 3_000)


def test_an_optimizer_on_the_host_counts_gradients_down_and_parameters_up() -> None:
    run = on_host(batch=80 * MB, loss=True)
    finding = found(offloaded_state, run)
    shown = {e.name: e.value for e in finding.evidence}
    assert (shown["to the host"], shown["to the device"]) == (100 * MB, 50 * MB)  # without the batch and the loss
    price = price_us(offloaded_state, on_host())
    assert price.mid_ns == close(2_000 + 1_000)
    assert price.low_ns == close((2_000 + 1_000) / 2)
    assert price.high_ns == close(2_000 + 1_000 + 1_000)  # nothing to wait for: the update runs beside the computation
    assert 'offload_optimizer={"device": "none"}' in finding.fix
    assert "FullyShardedDataParallel(cpu_offload=None)" in finding.fix


def test_the_same_copies_beside_an_optimizer_on_the_device_are_activations() -> None:
    silent(offloaded_state, on_host(kernel=True))


def test_an_optimizer_of_the_host_is_known_by_its_name() -> None:
    """Older versions of DeepSpeed's launch a kernel for the parameters' format inside their step."""
    finding = found(offloaded_state, on_host(mark="Optimizer.step#DeepSpeedCPUAdam.step", kernel=True))
    assert "FullyShardedDataParallel" not in finding.fix


def test_hidden_copies_are_not_worth_advice() -> None:
    run = swapping(stream=SIDE)
    price = price_us(offloaded_state, run)
    assert price.mid_ns == close(0)
    found_one = [(offloaded_state, found(offloaded_state, run))]
    step_ns = run.replay.measured_ns
    assert not price_findings(run.replay, found_one, Scale(step_ns / 1e9, step_ns, None))[0].worth


@pytest.mark.parametrize(
    "run",
    [
        swapping(down=0),
        swapping(up=0),
        swapping(down=16 * 2**20 - 1),
        swapping(up=8 * MB),
        swapping(mark="update"),  # no optimizer is seen: what moves can be anything
    ],
    ids=["only up", "only down", "little down", "little up", "no optimizer"],
)
def test_one_direction_little_or_unmarked_is_no_finding(run: Run) -> None:
    silent(offloaded_state, run)


def test_batches_and_losses_are_no_finding() -> None:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.fetch(20)
            copy(drawn, UP, 2_000, 200 * MB)
            drawn.op("aten::mm", kernel=3_000)
            drawn.item()
            copy(drawn, DOWN, 900, 40 * MB)  # predictions
            with drawn.span(STEP):
                drawn.op("aten::_fused_adamw_", host=1_000)
    silent(offloaded_state, run_of(drawn))


def test_what_only_some_steps_copy_is_no_state() -> None:
    drawn = Timeline()
    for i in range(8):
        with drawn.step():
            drawn.op("aten::mm", kernel=4_000)
            with drawn.span(STEP):
                copy(drawn, UP, 1_000, (90 + i) * MB)
                copy(drawn, DOWN, 1_000, (90 + i) * MB)
                drawn.op("aten::_fused_adamw_", kernel=200)
            drawn.sync()
    silent(offloaded_state, run_of(drawn))


def test_state_that_does_not_fit_is_withheld_with_the_numbers() -> None:
    """AdamW keeps a parameter and two moments of at least the 50 MB that come up: 143 MiB."""
    run = on_host(memory=memory(100 * MB))
    assert found(offloaded_state, run).withhold == (
        "the state needs at least 143 MiB, but only 95.4 MiB of memory can still be used"
    )
    assert found(offloaded_state, swapping(memory=memory(-GB))).withhold is not None


def test_state_that_fits_in_any_case_is_more_than_a_hint() -> None:
    finding = found(offloaded_state, on_host(memory=memory(GB)))
    assert (finding.withhold, finding.confidence) == (None, "modelled")
    assert finding.detail == "the state needs 143 MiB to 286 MiB of GPU memory; 954 MiB can still be used"
    between = found(offloaded_state, on_host(memory=memory(200 * MB)))
    assert (between.withhold, between.confidence) == (None, "hint")
