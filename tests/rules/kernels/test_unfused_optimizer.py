"""unfused-optimizer: many launches become one, at the price of the memory traffic that remains."""

from __future__ import annotations

from mfu_doctor.facts import OptimizerFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.kernels.unfused_optimizer import unfused_optimizer
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

SPAN = "Optimizer.step#AdamW.step"
BANDWIDTH = 2039e9  # A100 SXM4 80 GB, bytes/s


def loop(ops: list[str], kernel: int, host: int, compute: int = 2_000, *, device: bool = True) -> Timeline:
    drawn = Timeline() if device else Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=compute if device else None, host=10 if device else compute)
            with drawn.span(SPAN):
                for name in ops:
                    drawn.op(name, kernel=kernel if device else None, host=host)
            if device:
                drawn.sync()
    return drawn


def test_single_tensor_updates_are_priced_down_to_their_memory_traffic() -> None:
    # 200 operators of 50 us host and 20 us device; one million parameters: 28 MB, 13.7 us at full bandwidth
    elements = 1_000_000
    facts = (OptimizerFacts(class_name="AdamW", parameters=20, elements=elements),)
    run = run_of(loop(["aten::mul_"] * 200, 20, 50), optimizers=facts)
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
    assert found(unfused_optimizer, run_of(loop(["aten::_foreach_add_"] * 4, 300, 100))).fix.endswith("fused=True)")


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
    run = run_of(loop(["aten::mul_"] * 100, 0, 50, compute=3_000, device=False))
    price = price_us(unfused_optimizer, run)
    assert price.low_ns == close(0.4 * 5_000)
    assert price.mid_ns == close(0.65 * 5_000)
    assert "100 operators" in found(unfused_optimizer, run).summary
