"""small-buckets: many small reductions are priced as one."""

from __future__ import annotations

from mfu_doctor.rules.communication.small_buckets import small_buckets
from tests.rules.drawing import MILLION, communicating
from tests.rules.judging import close, found, price_us, run_of, silent


def test_many_small_all_reduces_are_priced_as_one_bucket() -> None:
    # 40 of 4 KiB in 50 us each: one bucket of 160 KiB takes one latency
    price = price_us(small_buckets, run_of(communicating(*[(1024, 50)] * 40)))
    assert price.mid_ns == close(40 * 50 - 50)
    assert price.low_ns == close((40 * 50 - 50) / 2)


def test_waiting_for_other_ranks_is_not_shortened() -> None:
    """One of them waits for 1 ms: larger buckets wait as long."""
    price = price_us(small_buckets, run_of(communicating(*[(1024, 50)] * 39, (1024, 1050))))
    assert price.mid_ns == close(40 * 50 - 50)


def test_large_buckets_are_no_finding() -> None:
    silent(small_buckets, run_of(communicating((6 * MILLION, 900), (6 * MILLION, 900))))


def test_the_remedy_is_of_the_framework_and_sums_of_activations_have_none() -> None:
    many = [(1024, 50)] * 40
    assert found(small_buckets, run_of(communicating(*many))).fix == "DistributedDataParallel(model, bucket_cap_mb=25)"
    assert "torch.cat" in found(small_buckets, run_of(communicating(*many, within="train"))).fix
    silent(small_buckets, run_of(communicating(*many, within="nn.Module: RowParallelLinear_3")))
