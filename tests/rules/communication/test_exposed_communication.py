"""exposed-communication: only the part of a collective behind which nothing is computed has a price."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.communication.exposed_communication import exposed_communication
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline
from tests.traces import real_run

KERNEL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"
COMMUNICATION = 20  # stream


LARGE = (
    1 << 26
)  # elements: 256 MiB, which 8 devices reduce in 1.6 ms at the full rate of their links, in 7.8 at a fifth of it


def loop(collectives: list[int], hidden: int, *, size: int = LARGE, spans: tuple[str, ...] = ()) -> Timeline:
    """Each step computes 3 ms beside `hidden` us of communication, then waits for one collective after another."""
    drawn = Timeline()
    for step in range(6):
        with drawn.step():
            for span in spans:
                with drawn.span(span):
                    drawn.python(1)
            drawn.op("aten::mm", kernel=3_000)
            end = drawn.free[7]
            told = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": size, "Group size": 8}
            if hidden:
                drawn.op("c10d::allreduce_", kernel=hidden, kernel_name=KERNEL, stream=COMMUNICATION)
            us = collectives[step % len(collectives)]
            drawn.op("c10d::allreduce_", kernel=us, kernel_name=KERNEL, stream=COMMUNICATION, ready=end)
            drawn.events[-2]["args"] |= told
            drawn.call("cudaStreamWaitEvent", 2)
            drawn.op("aten::add_", kernel=100, ready=drawn.free[COMMUNICATION])
            drawn.sync("cudaDeviceSynchronize")
    return drawn


def test_exposed_transfer_is_priced_from_half_to_all() -> None:
    price = price_us(exposed_communication, run_of(loop([2_000], 0)))
    assert price.low_ns == close(1_000)
    assert price.mid_ns == close(2_000)
    assert price.high_ns == close(2_000)


def test_what_exceeds_the_fastest_equal_collective_is_waiting_for_ranks() -> None:
    # 1 ms at best; half of them wait 3 ms more for a late rank: only the high end counts on that
    price = price_us(exposed_communication, run_of(loop([1_000, 4_000], 0)))
    assert price.mid_ns == close(1_000)
    assert price.high_ns > 1.5 * price.mid_ns
    assert found(exposed_communication, run_of(loop([1_000, 4_000], 0))).confidence == "hint"


def test_communication_behind_computation_is_no_finding() -> None:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=3_000)
            drawn.op("c10d::allreduce_", kernel=1_000, kernel_name=KERNEL, stream=COMMUNICATION)
    silent(exposed_communication, run_of(drawn))


def test_a_single_rank_is_no_finding() -> None:
    drawn = Timeline()
    with drawn.step():
        drawn.op("aten::mm", kernel=3_000)
    silent(exposed_communication, run_of(drawn))


def test_more_communication_than_computation_cannot_be_hidden() -> None:
    """300 us of computation can cover 300 of 2000 us of collectives, whatever the buckets."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            end = drawn.op("aten::mm", kernel=300)
            comm = drawn.op(
                "c10d::allreduce_", kernel=2_000, kernel_name="ncclDevKernel_AllReduce", stream=20, ready=end
            )
            told = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": LARGE, "Group size": 8}
            drawn.events[-2]["args"] |= told
            drawn.op("aten::add_", kernel=1, ready=comm)
    assert price_us(exposed_communication, run_of(drawn)).high_ns == close(301)


def without_sizes(drawn: Timeline) -> Timeline:
    for event in drawn.events:
        event["args"] = {key: value for key, value in event["args"].items() if key not in ("dtype", "In msg nelems")}
    return drawn


def test_waiting_that_nobody_can_tell_from_transfer_is_unknown_and_not_zero() -> None:
    """Sizes are not recorded: one rank does not show whether 2 ms are transfer or a late rank, so no saving is promised."""
    finding = found(exposed_communication, run_of(without_sizes(loop([2_000], 0))))
    assert "how much of the rest is waiting for other ranks is not known" in (finding.detail or "")
    assert finding.change is None
    assert finding.confidence == "measured"  # the cost is; no saving is predicted that could be a rough estimate
    assert not [e for e in finding.evidence if e.name.startswith("waiting for other ranks")]
    (unknown,) = [e for e in finding.evidence if e.name == "waiting or transfer, unknown which"]
    assert unknown.value == pytest.approx(2e-3, rel=0.02)


def test_a_rank_that_is_late_in_every_step_is_no_reason_for_other_buckets() -> None:
    """4 MiB need 25 us: all collectives take 2 ms because a rank is late each time, which one rank cannot see."""
    finding = found(
        exposed_communication, run_of(loop([2_000], 0, size=1 << 20, spans=("DistributedDataParallel.forward",)))
    )
    assert finding.fix.startswith("mfu-doctor report DIR ")
    assert finding.change is None
    assert "how much of the rest is waiting for other ranks is not known" in (finding.detail or "")


def test_a_device_whose_link_is_unknown_does_not_tell_transfer_from_waiting() -> None:
    drawn = loop([2_000], 0)
    drawn.header["deviceProperties"][0]["name"] = "NVIDIA A100-PCIE-40GB"
    assert found(exposed_communication, run_of(drawn)).change is None


def test_waiting_that_is_certain_is_told_even_if_the_rest_is_not_known() -> None:
    finding = found(exposed_communication, run_of(loop([1_000, 4_000], 0, size=1 << 20)))
    assert "at least 1.50 ms of the rest is waiting for other ranks, and of 1.00 ms it is not known" in (
        finding.detail or ""
    )


def test_collectives_at_the_same_time_take_no_more_than_the_time_that_they_share() -> None:
    """ "at least 24.2 ms is waiting, and of 166 ms it is not known" was said of 179 ms, and 344 ms of a step of 210."""
    drawn = loop([1_000, 4_000], 0, size=1 << 20)
    for event in [event for event in drawn.events if event["name"] == KERNEL]:
        drawn.events.append({**event, "tid": 21, "args": {**event["args"], "stream": 21}})
    finding = found(exposed_communication, run_of(drawn))
    told = {e.name: float(e.value) for e in finding.evidence if e.unit == "s"}
    exposed = told["exposed communication"]
    assert exposed == pytest.approx(2.5e-3, rel=0.02)
    known, unknown = told["waiting for other ranks, at least"], told["waiting or transfer, unknown which"]
    assert known == pytest.approx(1.5e-3, rel=0.02)
    assert known + unknown == pytest.approx(exposed)
    assert told["allreduce, 2 calls per step"] == pytest.approx(exposed)


def test_an_unpriced_wait_of_less_than_a_hundredth_of_the_step_is_no_finding() -> None:
    silent(exposed_communication, run_of(without_sizes(loop([20], 0))))


def test_waiting_is_known_in_part() -> None:
    finding = found(exposed_communication, run_of(loop([1_000, 4_000], 0)))
    assert "at least 1.50 ms of the rest is waiting for other ranks" in (finding.detail or "")


def test_equal_collectives_that_take_equally_long_do_not_prove_that_nobody_waits() -> None:
    finding = found(exposed_communication, run_of(loop([2_000], 0)))
    assert "either none or each of them waited" in (finding.detail or "")


TORCHREC = "## all2all_data:indices_weights ##"


@pytest.mark.parametrize(
    ("spans", "kind", "fix"),
    [
        (
            ("DistributedDataParallel.forward",),
            "AllReduce",
            "DistributedDataParallel(model, bucket_cap_mb=10, static_graph",
        ),
        (("torch.distributed.ddp.reducer::copy_bucket_to_grad",), "AllReduce", "gradient_as_bucket_view=True"),
        (("FullyShardedDataParallel.forward",), "AllGather", "FullyShardedDataParallel(..., forward_prefetch=True"),
        (("FSDP::pre_forward",), "AllGather", "set_modules_to_forward_prefetch"),
        (("FSDP::pre_forward",), "ReduceScatter", "set_modules_to_forward_prefetch"),
        (("nn.Module: DeepSpeedEngine_0",), "AllReduce", "overlap_comm"),
        (("megatron/core/tensor_parallel/layers.py(1): forward",), "AllReduce", "_micro_pipeline_tp"),
        (("nccl:recv",), "SendRecv", "ScheduleInterleaved1F1B"),
        ((TORCHREC,), "SendRecv", "TrainPipelineSparseDist"),
        ((TORCHREC, "## wait_sparse_data_dist ##"), "SendRecv", "QCommsConfig"),
        ((TORCHREC, "## sdd_wait_tensors ##"), "SendRecv", "QCommsConfig"),
        (("DistributedDataParallel.forward", TORCHREC, "## sparse_data_dist ##"), "SendRecv", "QCommsConfig"),
        ((), "AllReduce", "# start the reduction earlier"),
        ((), "AllGather", "# start the all-gather earlier"),
        ((), "SendRecv", "# start the send earlier"),
    ],
)
def test_the_remedy_is_one_of_the_framework_that_communicates(spans: tuple[str, ...], kind: str, fix: str) -> None:
    drawn = loop([2_000], 0, spans=spans)
    for event in drawn.events:
        event["name"] = event["name"].replace("AllReduce", kind)
        if event["cat"] == "kernel" and "Collective name" in event["args"]:
            event["args"]["Collective name"] = kind
    said = found(exposed_communication, run_of(drawn)).fix
    assert fix in said
    if "DistributedDataParallel.forward" not in spans:
        assert "DistributedDataParallel(model" not in said or spans[0].startswith("torch.distributed.ddp")


@pytest.mark.parametrize("name", ["v100_dlrm_8ranks/rank0", "a100_dlrm_rank3of8"])
def test_a_pipeline_that_the_trace_shows_is_not_advised(name: str) -> None:
    run = real_run(name)
    finding = found(exposed_communication, run)
    assert "TrainPipelineSparseDist" not in finding.fix
    assert "not known" in (finding.detail or "")


def test_a_collective_without_a_length_on_a_device_without_a_known_link_is_no_error() -> None:
    drawn = loop([2_000, 0], 0)
    drawn.header["deviceProperties"][0]["name"] = "a device of nobody"
    assert "at least 1.00 ms of the rest is waiting" in (found(exposed_communication, run_of(drawn)).detail or "")
