"""small-microbatches: passes that become one launch their operators once; large ones keep what they compute."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import LoaderFacts, MemoryFacts
from mfu_doctor.rules.host.small_microbatches import small_microbatches
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

GPU = "NVIDIA A100-SXM4-80GB"
SMALL, LARGE = [[1, 64], [64, 64]], [[4096, 1024], [1024, 1024]]
BATCH = 150 + 200 + 50  # us: forward, backward, Python


def loop(
    device: str | None = None,
    *,
    batches: int = 4,
    roots: bool = True,
    dims: list[list[int]] = SMALL,
    norm: bool = False,
    losses: int = 1,
    **facts: object,
) -> Run:
    """Per step `batches` times 3 products forward, 50 us of Python and 4 backward, 50 us each; then an update of 100 us."""
    drawn, kernel = Timeline(device=device), 5 if device else None
    product = {"kernel": kernel, "host": 50, "dims": dims, "types": ["float", "float"]}
    for _ in range(5):
        with drawn.step():
            for batch in range(batches):
                for _ in range(3):
                    drawn.op("aten::batch_norm" if norm else "aten::mm", **product)  # type: ignore[arg-type]
                drawn.python(50)
                if roots:
                    drawn.op("aten::ones_like", kernel=kernel, host=10)
                for _ in range(4):
                    name = "MmBackward0" if batch % losses == 0 else "BmmBackward0"
                    node = drawn.span(f"autograd::engine::evaluate_function: {name}", "cpu_op")
                    with node, drawn.span(name, "cpu_op"):
                        drawn.op("aten::mm", **product)  # type: ignore[arg-type]
            with drawn.span("Optimizer.step#SGD.step", "cpu_op"):
                drawn.op("aten::_foreach_add_", kernel=kernel, host=100)
    return run_of(
        drawn,
        micro_batches=float(batches),
        loaders=(LoaderFacts(class_name="DataLoader", num_workers=0, batch_size=2),),
        **facts,
    )


def memory(used: float) -> MemoryFacts:
    return MemoryFacts(total_bytes=80 << 30, allocated_peak_bytes=int(used * (80 << 30)))


def test_operators_are_launched_once_for_all_batches() -> None:
    finding = found(small_microbatches, loop())
    assert finding.fix == "DataLoader(..., batch_size=8)  # and optimizer.step() after each batch; no loss / 4"
    price = price_us(small_microbatches, loop())
    assert price.high_ns == close(3 * (BATCH + 10))
    assert price.low_ns < price.mid_ns <= price.high_ns


def test_what_products_compute_stays() -> None:
    run = loop(dims=LARGE)
    flops = 2 * 4096 * 1024 * 1024
    run.__dict__["peaks"] = replace(run.peaks, dense={"fp32": flops / 50e-6}, bandwidth=1e12)
    assert price_us(small_microbatches, run).high_ns == close(3 * (50 + 10))


def test_no_more_become_one_than_memory_allows() -> None:
    finding = found(small_microbatches, loop(GPU, memory=memory(0.44)))
    assert finding.fix == "DataLoader(..., batch_size=4)  # and optimizer.step() after 2 batches; loss / 2, not / 4"
    silent(small_microbatches, loop(GPU, memory=memory(0.5)))
    silent(small_microbatches, loop(GPU))


@pytest.mark.parametrize(("batches", "used", "size"), [(4, 0.3, 4), (8, 0.16, 8), (6, 0.3, 6), (16, 0.1, 16)])
def test_the_optimizer_sees_as_many_samples_as_before(batches: int, used: float, size: int) -> None:
    finding = found(small_microbatches, loop(GPU, batches=batches, memory=memory(used)))
    assert f"batch_size={size})" in finding.fix
    assert f"after {2 * batches // size} batches" in finding.fix


def test_batches_that_do_not_divide_are_left_alone() -> None:
    silent(small_microbatches, loop(GPU, batches=5, memory=memory(0.3)))


def test_two_losses_of_a_step_are_no_two_batches_of_it() -> None:
    silent(small_microbatches, loop(batches=2, losses=2))
    found(small_microbatches, loop(batches=2))


def test_a_batch_norm_sees_more_samples_at_once() -> None:
    assert found(small_microbatches, loop()).risk == "rounding"
    assert found(small_microbatches, loop(norm=True)).risk == "convergence"


@pytest.mark.parametrize("run", [loop(batches=1), loop(roots=False)], ids=["one batch", "no backward for each"])
def test_without_accumulation_nothing_is_found(run: Run) -> None:
    silent(small_microbatches, run)
