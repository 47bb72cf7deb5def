"""fp32-gradients: half of the bytes take a little more than half of the time."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.communication.fp32_gradients import fp32_gradients
from mfu_doctor.rules.contract import Skip
from tests.rules.drawing import MILLION, communicating
from tests.rules.judging import close, found, price_us, run_of, silent


def test_half_of_the_bytes_take_a_little_more_than_half_of_the_time() -> None:
    price = price_us(fp32_gradients, run_of(communicating((32 * MILLION, 2_000))))
    assert price.mid_ns == close(0.45 * 2_000)
    assert price.high_ns == close(0.5 * 2_000)
    silent(fp32_gradients, run_of(communicating((1024, 50))))


def test_what_the_link_does_not_explain_may_be_waiting_and_is_not_promised() -> None:
    """32 MB need 0.2 ms: that all of them take 2 ms can be a rank that is late in every step."""
    price = price_us(fp32_gradients, run_of(communicating((8 * MILLION, 2_000))))
    assert price.mid_ns == 0
    assert price.high_ns == close(0.5 * 2_000)


@pytest.mark.parametrize(
    ("within", "fix"),
    [
        ("FSDP::pre_forward", "MixedPrecisionPolicy(reduce_dtype"),
        ("FullyShardedDataParallel.forward", "MixedPrecision(reduce_dtype"),
        ("nn.Module: DeepSpeedEngine_0", "communication_data_type"),
        ("DistributedDataParallel.forward", "bf16_compress_hook"),
    ],
)
def test_each_framework_has_its_own_option(within: str, fix: str) -> None:
    assert fix in found(fp32_gradients, run_of(communicating((8 * MILLION, 2_000), within=within))).fix


def test_sums_of_nobody_known_may_not_be_gradients() -> None:
    """In tensor parallelism they are activations, and a hook of DistributedDataParallel has nothing to hook."""
    assert isinstance(fp32_gradients.judge(run_of(communicating((8 * MILLION, 2_000), within="train"))), Skip)
