"""A rank's summary: which collectives, where its time went, and what travels."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.errors import DoctorError
from mfu_doctor.job.rank.machine import host_of
from mfu_doctor.job.rank.summarize import summarize
from mfu_doctor.job.summary import Group, RankSummary
from mfu_doctor.trace import Trace
from tests.analysis.test_windows import two_windows
from tests.rules.drawing import compute, wait_for_collectives
from tests.timeline import Timeline
from tests.traces import real_run

WORLD = {"pg_name": "0", "pg_desc": "default_pg", "backend_config": "cpu:gloo", "pg_size": 4, "ranks": [0, 1, 2, 3]}
DP = {"pg_name": "1", "pg_desc": "dp", "backend_config": "cpu:gloo", "pg_size": 2, "ranks": [0, 2]}
TP = {"pg_name": "3", "pg_desc": "tp", "backend_config": "cpu:gloo", "pg_size": 2, "ranks": [0, 1]}


def exact(summary: RankSummary) -> None:
    """The parts of any stretch of time sum to it, and no time inside of the steps is without an owner."""
    first = summary.step_start[0]
    ledger, columns = summary.ledger, summary.collectives
    for spent, time in (
        (ledger.at_arrival, columns.arrive),
        (ledger.at_end, columns.end),
        (ledger.at_step, summary.step_start),
    ):
        np.testing.assert_array_equal(spent.sum(axis=1), time - first)
    assert (ledger.at_step[:, -1] == 0).all()
    assert (ledger.at_step >= 0).all()


def test_the_kernels_say_which_collective_of_which_group() -> None:
    drawn = Timeline()
    for step in range(4):
        with drawn.step():
            compute(drawn, 500)
            for i, (name, ranks) in enumerate((("7", "[0, 2]"), ("8", "[0, 1, ...]"))):
                drawn.op(
                    "c10d::allreduce_",
                    kernel=100,
                    kernel_name="ncclDevKernel_AllReduce_Sum_f32",
                    stream=20 + i,
                    ready=drawn.free[7],
                )
                drawn.events[-2]["args"] |= {
                    "Collective name": "allreduce",
                    "dtype": "Float",
                    "In msg nelems": 1000,
                    "Group size": 2,
                    "Process Group Name": name,
                    "Process Group Description": f"mesh_{name}",
                    "Process Group Ranks": ranks,
                    "Seq": 10 + step,
                }
            wait_for_collectives(drawn)
    summary = summarize(Run(drawn.trace()))
    columns = summary.collectives
    assert columns.groups == (Group("7", "mesh_7", (0, 2), 2), Group("8", "mesh_8", None, 2))
    assert columns.group.tolist() == [0, 1] * 4
    assert columns.sequence.tolist() == [10, 10, 11, 11, 12, 12, 13, 13]
    assert columns.order.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert columns.step.tolist()[:6] == [0, 0, 1, 1, 2, 2]
    assert set(columns.size.tolist()) == {4000}
    assert "communication: mesh_7 7" in summary.ledger.owners
    exact(summary)


def gloo(*groups: dict[str, Any]) -> Timeline:
    """Steps of a product and an all-reduce on each of two pairs of threads, then a send on the training thread."""
    drawn = Timeline(device=None)
    drawn.header["distributedInfo"] = {"backend": "gloo", "rank": 0, "world_size": 4, "pg_config": list(groups)}
    drawn.header["host_name"] = "node7"
    for step in range(4):
        with drawn.step():
            drawn.op("aten::mm", host=500)
            for thread in (901, 911):
                drawn.op("c10d::allreduce_", host=10)
                told: dict[str, Any] = {"dims": [[1000]], "types": ["float"]}
                drawn.add("user_annotation", "gloo:all_reduce", drawn.now, 300, tid=thread + step % 2, **told)
                drawn.python(310)
            drawn.op("c10d::send", host=10, concrete=["", "", "1", "0"])
            drawn.add("user_annotation", "gloo:send", drawn.now - 3, 20)  # it outlives the operator that began it
            drawn.python(25)
    return drawn


def test_the_threads_of_gloo_say_which_group_it_is() -> None:
    summary = summarize(Run(gloo(WORLD, DP, TP).trace()))
    columns = summary.collectives
    names = [columns.groups[g].description for g in columns.group.tolist()]
    assert names == ["dp", "tp", None] * 4
    assert columns.kind == ("allreduce", "allreduce", "send") * 4
    assert columns.size.tolist()[:2] == [4000, 4000]
    assert columns.peer.tolist() == [-1] * 12  # rank 1 of a group that nothing names
    assert (summary.rank, summary.world_size, summary.host) == (0, 4, "node7")
    exact(summary)


def test_threads_of_more_groups_than_are_listed_have_no_name() -> None:
    columns = summarize(Run(gloo(DP, dict(TP, pg_name="4"), WORLD, TP).trace())).collectives
    assert [columns.groups[g].name for g in columns.group.tolist()[:2]] == ["", ""]
    assert columns.group.tolist()[:2] == [0, 1]


def test_the_only_group_is_the_one() -> None:
    columns = summarize(Run(gloo(DP).trace())).collectives
    assert columns.groups == (Group("1", "dp", (0, 2), 2),)
    assert columns.peer.tolist()[2] == 2  # the second of the group


@pytest.mark.parametrize(
    "name", ["v100_dlrm_8ranks/rank7", "two_ranks/rank0", "a100_resnet50_ddp_rank0of2", "cpu_gloo_rank34of300"]
)
def test_the_time_of_a_real_rank_is_accounted_for(name: str) -> None:
    exact(summarize(real_run(name)))


def test_a_summary_is_small_and_can_travel() -> None:
    summary = summarize(real_run("v100_dlrm_8ranks/rank0"))
    assert len(summary.collectives) == 8
    assert summary.collectives.kind == (*["alltoall"] * 4, "allreduce", "alltoall", "allreduce", "allreduce")
    sent = pickle.dumps(summary)
    assert len(sent) < 100_000
    assert pickle.loads(sent).report == summary.report


def test_a_run_without_collectives_has_a_summary_too() -> None:
    drawn = Timeline()
    for _ in range(4):
        with drawn.step():
            compute(drawn, 500)
            drawn.sync()
    summary = summarize(Run(drawn.trace()), rank=3)
    assert summary.rank == 3
    assert len(summary.collectives) == 0
    exact(summary)


def test_a_rank_whose_gpu_is_not_in_its_trace_has_no_summary() -> None:
    drawn = Timeline()
    for _ in range(4):
        with drawn.step(), drawn.span("aten::mm", "cpu_op"):
            drawn.call("cudaLaunchKernel", 4, correlation=drawn._id())
    with pytest.raises(DoctorError, match="GPU"):
        summarize(Run(drawn.trace()))


def named(label: str, *, host: str | None = None) -> Trace:
    """A trace whose file has this name."""
    return replace(Timeline().trace(), label=label, host=host)


def test_the_machine_is_the_recorded_one_else_that_of_the_file() -> None:
    name = "node7_41234.1694128201545.pt.trace.json.gz"
    assert host_of(named(name, host="gpu-3"), 8) == "gpu-3"
    assert host_of(named(name), 8) == "node7"
    assert host_of(named("node7_41234.rank3.1796019905806846580.pt.trace.json.gz"), None) == "node7"
    assert host_of(named("rank3.pt.trace.json.gz"), 8) is None
    assert host_of(named("worker_3.1694128201545.pt.trace.json"), 8) is None  # no rank is as high as a process


def test_sources_are_found_however_the_trace_says_them() -> None:
    """The header of a group that a kernel only names; a cut list of ranks."""
    drawn = Timeline()
    drawn.header["distributedInfo"] = {"rank": 1, "world_size": 4, "pg_config": [WORLD, DP]}
    for _ in range(4):
        with drawn.step():
            drawn.op("c10d::send", kernel=100, kernel_name="ncclDevKernel_SendRecv", stream=20)
            told = {
                "Collective name": "send",
                "Process Group Name": "1",
                "Process Group Ranks": "[0, ...]",
                "Dst Rank": 2,
            }
            drawn.events[-2]["args"] |= told
            drawn.sync("cudaDeviceSynchronize")
    columns = summarize(Run(drawn.trace())).collectives
    assert columns.groups == (Group("1", "dp", (0, 2), 2),)
    assert set(columns.peer.tolist()) == {2}


def test_findings_are_replays_of_the_same_collectives() -> None:
    """A step that waits for a slow loader, and a collective: alone, the rank gains what its own report predicts."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.fetch(1000)
            compute(drawn, 500)
            drawn.op("c10d::allreduce_", kernel=200, kernel_name="ncclDevKernel_AllReduce_Sum_f32", stream=20)
            drawn.sync("cudaDeviceSynchronize")
    summary = summarize(Run(drawn.trace()))
    assert summary.reach is not None
    (mended,) = [m for m in summary.mended if m.rule == "input-bound"]
    saving = next(d.saving for d in summary.report.failed if d.rule == "input-bound")
    assert saving is not None
    before = summary.reach.mean_step_ns(summary.reach.alone(summary.reach.lasts_ns))
    for reach, predicted_s in ((mended.low, saving.low), (mended.mid, saving.mid), (mended.high, saving.high)):
        gained = before - reach.mean_step_ns(reach.alone(reach.lasts_ns))
        assert gained / reach.second_ns == pytest.approx(predicted_s)


def test_the_work_of_a_step_is_known_if_its_own_shapes_are() -> None:
    """Borrowed from the step that was recorded in depth, they say nothing about how steps differ."""
    assert np.isnan(summarize(Run(two_windows())).flops).all()
    drawn = Timeline()
    for step in range(4):
        with drawn.step():
            drawn.op("aten::mm", kernel=100, dims=[[8 << step, 16], [16, 32]], types=["float", "float"])
            drawn.sync()
    flops = summarize(Run(drawn.trace())).flops
    assert flops.tolist() == [2 * (8 << step) * 16 * 32 for step in range(len(flops))]
