"""host-computation: operators that compute on the CPU are named and priced; what launches, or hides, is left alone."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.api.diagnose import diagnose
from mfu_doctor.rules.host.device_sync import device_sync
from mfu_doctor.rules.host.host_bound import host_bound
from mfu_doctor.rules.host.host_computation import host_computation
from mfu_doctor.rules.input.host_made_tensor import host_made_tensor
from mfu_doctor.rules.input.pageable_copy import pageable_copy
from tests.rules.drawing import compute, steps, upload
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.steps import median_split
from tests.timeline import Timeline

BATCH = 4 * 3 * 224 * 224 * 4  # bytes


def random_batches(*, host: int = 9_700, device: str = "Tesla T4") -> Timeline:
    """A recording of a T4: each step makes its batch with torch.randn on the CPU, copies it, and trains on it for 2 ms."""
    drawn = Timeline(device=device, sms=40)
    for _ in range(6):
        with drawn.step():
            with drawn.span("aten::randn", "cpu_op"):
                drawn.op("aten::empty", host=10)
                drawn.op("aten::normal_", host=host - 10)
            upload(drawn, 200, BATCH, pinned=False, op="aten::to")
            for _ in range(20):
                compute(drawn, 100, host=20)
            drawn.item()
    return drawn


def on_cpu(*ops: tuple[str, int], kernel: int = 500) -> Run:
    """Steps with these operators (name, microseconds) before a product and a wait for it."""

    def body(drawn: Timeline) -> None:
        for name, us in ops:
            drawn.op(name, host=us)
        compute(drawn, kernel)
        drawn.sync()

    return run_of(steps(body))


def test_making_random_numbers_on_the_cpu_is_not_launching() -> None:
    run = run_of(random_batches())
    causes = median_split(run).causes
    assert causes["host_compute"] / 1_000 == close(9_700)
    assert causes["launch"] + causes["python"] < 0.02 * median_split(run).total


def test_it_is_first_with_the_line_to_paste_and_what_it_costs() -> None:
    report = diagnose(random_batches().trace())
    first = report.failed[0]
    assert first.rule == "host-computation"
    assert 'torch.randn(..., device="cuda")' in (first.fix or "")
    assert "aten::randn" in (first.summary or "")
    assert first.saving is not None
    assert first.saving.mid == pytest.approx(9.7e-3, rel=0.05)
    assert "device-sync" in first.explains


def test_the_copy_of_what_the_gpu_could_make_goes_too() -> None:
    # 9.7 ms become one launch of 20 us; of the copy of 200 us remain 2.4 MB / 320 GB/s = 7.5 us
    price = price_us(host_computation, run_of(random_batches()))
    assert price.low_ns == close(9_680)
    assert price.mid_ns == close(9_680 + 200 - 7)


def test_an_operator_that_reads_its_input_is_priced_from_half_of_its_time() -> None:
    run = on_cpu(("aten::upsample_bilinear2d", 3_000))
    price = price_us(host_computation, run)
    assert price.low_ns == close(1_500)
    assert price.mid_ns == close(2_990)
    assert "before upsample_bilinear2d" in found(host_computation, run).fix


@pytest.mark.parametrize(
    ("name", "advice"), [("aten::pin_memory", "DataLoader(..., pin_memory=True)"), ("aten::to", ".to(dtype)")]
)
def test_pinning_and_converting_have_their_own_advice(name: str, advice: str) -> None:
    assert advice in found(host_computation, on_cpu((name, 3_000))).fix


def test_several_operators_are_named_the_longest_first() -> None:
    run = on_cpu(("aten::sort", 400), ("aten::randperm", 900))
    assert "aten::randperm and aten::sort" in found(host_computation, run).summary


@pytest.mark.parametrize(
    ("name", "us"), [("aten::add", 40), ("aten::empty", 900), ("aten::view", 300), ("c10d::allreduce_", 3_000)]
)
def test_dispatch_memory_views_and_collectives_are_no_computation(name: str, us: int) -> None:
    silent(host_computation, on_cpu((name, us)))


def test_an_operator_that_launches_is_no_computation_however_long_it_takes() -> None:
    def body(drawn: Timeline) -> None:
        compute(drawn, 100, host=3_000)

    run = run_of(steps(body))
    silent(host_computation, run)
    assert found(host_bound, run)


def test_many_views_in_one_operator_are_dispatch() -> None:
    def body(drawn: Timeline) -> None:
        with drawn.span("aten::unflatten_dense_tensors", "cpu_op"):
            for _ in range(100):
                drawn.op("aten::narrow", host=30)
        compute(drawn, 500)
        drawn.sync()

    silent(host_computation, run_of(steps(body)))


def test_computing_beside_a_busy_gpu_is_no_finding() -> None:
    def body(drawn: Timeline) -> None:
        compute(drawn, 20_000)
        drawn.op("aten::randn", host=3_000)

    silent(host_computation, run_of(steps(body)))


def test_computing_in_a_fetch_is_loading() -> None:
    def body(drawn: Timeline) -> None:
        with drawn.span("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"):
            drawn.op("aten::stack", host=3_000)
        compute(drawn, 500)
        drawn.sync()

    run = run_of(steps(body))
    silent(host_computation, run)
    assert median_split(run).data_loading / 1_000 == close(3_000)


def test_a_wait_before_the_computation_is_its_symptom() -> None:
    run = run_of(random_batches())
    assert "host-computation" in found(device_sync, run).symptom_of


def test_a_large_tensor_made_in_the_step_is_made_on_the_gpu_and_not_pinned() -> None:
    def body(drawn: Timeline) -> None:
        drawn.op("aten::zeros", host=30)
        upload(drawn, 300, 1_000_000, pinned=False, op="aten::to")
        compute(drawn, 500)

    run = run_of(steps(body))
    assert "host-made-tensor" in found(pageable_copy, run).symptom_of
    assert 'device="cuda"' in found(host_made_tensor, run).fix


def test_a_batch_that_was_not_made_in_the_step_is_no_made_tensor() -> None:
    def body(drawn: Timeline) -> None:
        drawn.op("aten::select", host=30)
        upload(drawn, 300, 1_000_000, pinned=False, op="aten::to")
        compute(drawn, 500)

    run = run_of(steps(body))
    silent(host_made_tensor, run)
    assert found(pageable_copy, run).symptom_of == ()
