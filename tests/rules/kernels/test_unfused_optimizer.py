"""unfused-optimizer: many launches become one, at the price of the memory traffic that remains."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak, OptimizerFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.unfused_optimizer import unfused_optimizer
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

SPAN = "Optimizer.step#AdamW.step"
BANDWIDTH = 2039e9  # A100 SXM4 80 GB, bytes/s


def loop(
    ops: list[str], kernel: int, host: int, compute: int = 2_000, *, device: bool = True, span: str = SPAN
) -> Timeline:
    drawn = Timeline() if device else Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=compute if device else None, host=10 if device else compute)
            with drawn.span(span):
                for name in ops:
                    drawn.op(name, kernel=kernel if device else None, host=host)
            if device:
                drawn.sync()
    return drawn


def test_single_tensor_updates_are_priced_down_to_their_memory_traffic() -> None:
    # 200 operators of 50 us host and 20 us device; one million parameters: 28 MB, 13.7 us at full bandwidth
    elements = 1_000_000
    facts = (OptimizerFacts(class_name="AdamW", parameters=20, elements=elements, module="torch.optim.adamw"),)
    run = run_of(loop(["aten::addcdiv_"] * 200, 20, 50), optimizers=facts)
    floor = 28 * elements / BANDWIDTH * 1e6
    price = price_us(unfused_optimizer, run)
    # the device finishes its 2 ms of computation while the host issues; what is left of the host is 15 % of 10 ms
    left = max(2_000, 0.15 * 10_000) + floor
    assert price.high_ns == close(run.replay.measured_ns / 1000 - left)
    assert price.low_ns < price.mid_ns < price.high_ns
    finding = found(unfused_optimizer, run)
    assert finding.fix == "torch.optim.AdamW(model.parameters(), ..., fused=True)"
    assert "200 kernels" in finding.summary


def test_a_fused_optimizer_is_no_finding() -> None:
    silent(unfused_optimizer, run_of(loop(["aten::_fused_adamw_"], 300, 100)))


def test_one_foreach_kernel_a_step_is_one_pass_already() -> None:
    silent(unfused_optimizer, run_of(loop(["aten::_foreach_add_"], 300, 100)))
    assert found(unfused_optimizer, run_of(loop(["aten::_foreach_addcdiv_"] * 4, 300, 100))).fix.endswith("fused=True)")


def test_behind_a_busy_device_the_launches_save_nothing() -> None:
    price = price_us(unfused_optimizer, run_of(loop(["aten::mul_"] * 10, 2, 5, compute=60_000)))
    assert price.low_ns < 0.01 * 60_000


def test_inference_is_not_judged() -> None:
    drawn = Timeline()
    with drawn.step():
        drawn.op("aten::mm", kernel=1_000)
    assert isinstance(unfused_optimizer.judge(run_of(drawn)), Skip)


def test_on_a_cpu_the_operators_are_the_work() -> None:
    # without a known bandwidth 60 % of the operators' own time stays at the low end, 35 % at the mid
    run = run_of(loop(["aten::addcdiv_"] * 100, 0, 50, compute=3_000, device=False))
    price = price_us(unfused_optimizer, run)
    assert price.low_ns == close(0.4 * 5_000)
    assert price.mid_ns == close(0.65 * 5_000)
    finding = found(unfused_optimizer, run)
    assert "100 operators" in finding.summary
    assert finding.fix == "torch.optim.AdamW(model.parameters(), ..., fused=True)  # needs torch >= 2.4"


def of_class(
    name: str,
    op: str = "aten::addcdiv_",
    *,
    device: bool = True,
    count: int = 60,
    torch: str = "2.13.0+cpu",
    **told: Any,
) -> Run:
    """Steps of an optimizer of this class with a known version of PyTorch, and what a live run tells of it."""
    facts = (OptimizerFacts(class_name=name, **told),) if told else ()
    drawn = loop([op] * count, 20, 50, device=device, span=f"Optimizer.step#{name}.step")
    return run_of(drawn, optimizers=facts, versions=(("torch", torch),))


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam", "Muon"])
@pytest.mark.parametrize("device", [True, False])
def test_an_optimizer_without_options_is_given_none(name: str, device: bool) -> None:
    silent(unfused_optimizer, of_class(name, device=device))
    silent(unfused_optimizer, of_class(name, device=device, module="torch.optim.any", options=()))


@pytest.mark.parametrize("name", ["RMSprop", "Rprop", "ASGD", "NAdam", "RAdam", "Adamax", "Adadelta", "Adafactor"])
def test_foreach_is_for_gpus(name: str) -> None:
    """On a CPU its operations run one tensor at a time, and were measured up to 3.5 times slower."""
    finding = found(unfused_optimizer, of_class(name))
    assert finding.fix == f"torch.optim.{name}(model.parameters(), ..., foreach=True)"
    silent(unfused_optimizer, of_class(name, device=False))


def test_foreach_keeps_the_passes_over_the_state() -> None:
    fused, foreach = (price_us(unfused_optimizer, of_class(name)) for name in ("AdamW", "NAdam"))
    assert foreach.low_ns < fused.low_ns
    assert foreach.high_ns < fused.high_ns


def test_options_are_those_of_the_version_in_use() -> None:
    assert found(unfused_optimizer, of_class("SGD", "aten::add_", torch="2.2.0")).fix.endswith("foreach=True)")
    older = found(unfused_optimizer, of_class("SGD", "aten::add_", torch="2.3.1", device=False))
    assert older.fix.endswith("fused=True)  # needs torch >= 2.4; this run has 2.3: upgrade first")
    assert found(unfused_optimizer, of_class("SGD", "aten::add_", torch="2.4.0", device=False)).fix.endswith(
        "fused=True)"
    )


def test_a_class_says_itself_which_options_it_takes() -> None:
    told: dict[str, Any] = {"module": "torch.optim.adamw", "options": ("foreach",)}
    assert found(unfused_optimizer, of_class("AdamW", **told)).fix.endswith("foreach=True)")
    told = {"module": "__main__", "options": ("foreach", "fused")}  # a subclass that passes **kwargs on
    assert found(unfused_optimizer, of_class("Mine", **told)).fix == "Mine(model.parameters(), ..., fused=True)"


def test_sparse_gradients_are_refused_by_fused() -> None:
    told: dict[str, Any] = {"module": "torch.optim.adagrad", "options": ("foreach", "fused"), "sparse_gradients": True}
    silent(unfused_optimizer, of_class("Adagrad", device=False, **told))
    silent(unfused_optimizer, of_class("Adagrad", "aten::_coalesce", device=False))
    told |= {"sparse_gradients": False}
    assert found(unfused_optimizer, of_class("Adagrad", device=False, **told)).fix.endswith("fused=True)")


@pytest.mark.parametrize("device", [True, False])
def test_a_home_made_optimizer_is_told_to_use_the_class_of_torch(device: bool) -> None:
    """It has no option; a live run knows its module, and in a trace its step lacks the operators of torch's class."""
    live = of_class("AdamW", "aten::mul", device=device, module="__main__", options=())
    for run in (live, of_class("AdamW", "aten::mul", device=device)):
        finding = found(unfused_optimizer, run)
        assert finding.fix.startswith("torch.optim.AdamW(model.parameters(), ..., fused=True)  # instead of your own")
        assert finding.effort == "line"


@pytest.mark.parametrize(
    ("name", "operator", "alike"),
    [("MyAdamW", "aten::mul", "AdamW"), ("PlainSGD", "aten::mul", "SGD"), ("Opt", "aten::sqrt", "AdamW")],
)
def test_a_home_made_optimizer_of_another_name_is_told_the_class_it_is_like(
    name: str, operator: str, alike: str
) -> None:
    finding = found(unfused_optimizer, of_class(name, operator, device=False, module="__main__", options=()))
    assert finding.fix.startswith(
        f"torch.optim.{alike}(model.parameters(), ..., fused=True)  # instead of your own {name}"
    )
    assert finding.fix.endswith("if it computes the same")


def test_a_home_made_optimizer_that_torch_does_not_have_needs_foreach_operations() -> None:
    assert found(unfused_optimizer, of_class("Lion", "aten::sign")).fix.startswith("torch._foreach_")
    silent(unfused_optimizer, of_class("Lion", "aten::sign", device=False))
    silent(
        unfused_optimizer, of_class("Adam8bit", "lib::step", parameters=60, elements=60_000, module="bnb", options=())
    )


def test_a_compiled_step_is_fused() -> None:
    silent(unfused_optimizer, of_class("AdamW", "triton_for_fused_0"))


@pytest.mark.parametrize("device", [True, False])
def test_two_operators_leave_nothing_to_merge(device: bool) -> None:
    silent(unfused_optimizer, of_class("SGD", "aten::add_", count=2, device=device))


def test_the_bandwidth_is_at_least_what_the_optimizer_reaches() -> None:
    """7.5 GB/s were measured on a busy machine, but the run itself reached 35: the floor was too high."""
    elements, passes = 1_000_000, 20
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
            with drawn.span(SPAN):
                for _ in range(passes):  # two reads and a write of 4 MB in 600 us: 20 GB/s
                    drawn.op("aten::addcdiv_", host=600, dims=[[elements], [elements]], types=["float", "float"])
    facts = (OptimizerFacts(class_name="AdamW", parameters=1, elements=elements, module="torch.optim.adamw"),)
    peaks = (MeasuredPeak(dtype="float32", flops=1e11, threads=2, how="drawn", bandwidth_bytes_s=5e9),)
    run = run_of(drawn, optimizers=facts, measured_peaks=peaks)
    assert price_us(unfused_optimizer, run).high_ns == close(passes * 600 - 28 * elements / 20e9 * 1e6)
