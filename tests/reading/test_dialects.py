"""One small file per dialect: what each year's spelling means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfu_doctor.reading import read_trace
from mfu_doctor.reading.dialects import CATEGORIES, DIALECTS
from mfu_doctor.trace import Category, ProcessGroup, Trace, Track
from tests import reference
from tests.reading.same import assert_same

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
KINETO = [
    "torch213_cpu.json.gz",
    "relative_footer_2024.json",
    "epoch_decimals_2024.json",
    "rocm_2025.json",
    "xpu_2025.json",
]


def fixture(name: str) -> Trace:
    return read_trace(FIXTURES / name)


def row(trace: Trace, name: str) -> int:
    return next(i for i in range(len(trace.events)) if trace.name_of(i) == name)


def track(trace: Trace, name: str) -> Track:
    return trace.tracks[int(trace.events.track[row(trace, name)])]


def category(trace: Trace, name: str) -> Category:
    return Category(int(trace.events.category[row(trace, name)]))


@pytest.mark.parametrize("name", KINETO)
def test_a_dialect_gives_what_the_slow_reader_gives(name: str) -> None:
    trace = fixture(name)
    assert_same(trace, reference.load(FIXTURES / name))
    assert trace.problems == ()


@pytest.mark.parametrize("name", [*KINETO, "kineto_2021.json"])
def test_what_only_old_versions_write_is_known_as_old(name: str) -> None:
    assert fixture(name).is_of_2021 == ("2021" in name)


def test_the_dialects_agree_on_every_category() -> None:
    """A category with two meanings would depend on the order of the dialects."""
    assert sum(len(dialect.CATEGORIES) for dialect in DIALECTS) == len(CATEGORIES)
    assert all(name == name.lower() for name in CATEGORIES)
    assert CATEGORIES.items() >= reference.CATEGORIES.items()


def test_the_names_of_2021() -> None:
    trace = fixture("kineto_2021.json")
    assert trace.problems == ()
    assert [trace.name_of(i) for i in range(len(trace.events))] == [
        "ProfilerStep#5", "aten::mm", "cudaLaunchKernel", "volta_sgemm_32x128_tn", "Memcpy HtoD (Pageable -> Device)",
    ]  # fmt: skip
    assert trace.events.category.tolist() == [
        Category.CPU_OP,
        Category.CPU_OP,
        Category.RUNTIME,
        Category.KERNEL,
        Category.MEMCPY,
    ]
    assert trace.events.external_id.tolist() == [4, 7, 7, 7, 9]
    assert track(trace, "volta_sgemm_32x128_tn") == Track("0", "7", 0)
    assert track(trace, "cudaLaunchKernel") == track(trace, "aten::mm") == Track("25738", "25738")
    assert trace.devices[0].name == "Tesla V100-SXM2-16GB"
    assert trace.origin_ns == 1_623_142_623_460_172_000
    args = trace.args_of(row(trace, "aten::mm"))
    assert args is not None
    assert args.dims == ((32, 64), (64, 128))
    assert args.concrete is None


def test_epoch_times_with_decimals_are_exact_to_the_nanosecond() -> None:
    """A float64 has steps of 250 ns there."""
    trace = fixture("epoch_decimals_2024.json")
    assert trace.origin_ns == 1_712_345_678_901_234_567
    assert trace.events.start.tolist() == [0, 434, 4_321_098_765_683]
    assert trace.events.end.tolist() == [12_345, 434 + 999, 4_321_098_765_683 + 3000]
    assert trace.memory is not None
    assert trace.memory.time.tolist() == [1_436]


def test_relative_times_take_their_base_from_the_footer() -> None:
    trace = fixture("relative_footer_2024.json")
    assert trace.origin_ns == 1_711_964_646_000_000_000 + 4_203_669_603_000_000
    assert trace.events.start[row(trace, "record_param_comms")] == 18_756


def test_collectives_have_their_arguments_on_the_operator_and_the_kernel() -> None:
    trace = fixture("relative_footer_2024.json")
    for name in (
        "record_param_comms",
        "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*, unsigned long, ncclWork*)",
    ):
        args = trace.args_of(row(trace, name))
        assert args is not None
        assert (args.collective, args.collective_dtype) == ("allreduce", "Float")
        assert (args.collective_in, args.collective_out, args.group_size) == (2_049_000, 2_049_000, 2)
    assert trace.distributed.rank == 1
    assert trace.distributed.world_size == 2
    assert trace.distributed.groups == (ProcessGroup("0", "default_pg", "cuda:nccl", 2, (0, 1)),)
    named = [args for args in trace.args if args.group is not None]
    assert [(a.group, a.group_description, a.group_ranks) for a in named] == [("0", "default_pg", (0, 1))]


def test_a_wait_is_on_the_stream_that_its_arguments_say() -> None:
    """The thread id of waits is made up by Kineto."""
    trace = fixture("relative_footer_2024.json")
    args = trace.args_of(row(trace, "Stream Wait Event"))
    assert args is not None
    assert (args.sync_kind, args.wait_stream, args.wait_record_correlation) == ("Stream Wait Event", 20, 57545)
    assert track(trace, "Stream Wait Event") == Track("0", "7", 0)


def test_versions_are_written_as_people_write_them() -> None:
    assert fixture("relative_footer_2024.json").versions == (
        ("cuda_runtime", "12.4"),
        ("cuda_driver", "12.2"),
        ("cupti", "22"),
    )
    assert fixture("rocm_2025.json").versions == (("hip_runtime", "6.4.43483"),)


def test_rocm_writes_streams_and_sizes_as_text() -> None:
    trace = fixture("rocm_2025.json")
    assert track(trace, "hipLaunchKernel") == Track("300", "300")
    assert track(trace, "void at::native::vectorized_elementwise_kernel<4>") == Track("2", "0", 2)
    sizes = [trace.args_of(row(trace, name)) for name in ("hipMemcpyWithStream", "Memcpy HtoD (Host -> Device)")]
    assert [args and args.copy_bytes for args in sizes] == [2560, 2560]


def test_intel_calls_are_calls() -> None:
    trace = fixture("xpu_2025.json")
    assert category(trace, "zeCommandListAppendLaunchKernel") == Category.RUNTIME
    assert category(trace, "zeEventQuery") == Category.DRIVER
    assert category(trace, "gemm_kernel") == Category.KERNEL


def test_before_kineto_the_process_said_where_an_event_ran() -> None:
    trace = fixture("autograd_2020.json")
    assert trace.events.category.tolist() == [Category.CPU_OP, Category.KERNEL, Category.CPU_OP]
    assert track(trace, "volta_sgemm_32x128_tn") == Track("CUDA functions", "0", 0)
    assert trace.events.start.tolist() == [0, 17_655, 47_655]
    assert [p.kind for p in trace.problems] == ["no-base-time"]


def test_the_python_exporter_writes_memory_as_durations_and_they_are_not() -> None:
    cpp, python = fixture("torch213_cpu.json.gz"), fixture("torch213_cpu_python_export.json.gz")
    assert "[memory]" not in python.names or python.names.index("[memory]") not in python.events.name
    assert len(cpp.events) == len(python.events)
    assert cpp.memory is not None
    assert python.memory is not None
    assert len(cpp.memory.time) == 48
    np.testing.assert_array_equal(cpp.memory.time, python.memory.time)
    np.testing.assert_array_equal(cpp.memory.allocated, python.memory.allocated)
    assert set(cpp.memory.device.tolist()) == {-1}


def test_what_capture_wrote_comes_back_as_facts() -> None:
    facts = fixture("torch213_cpu.json.gz").facts
    assert facts is not None
    assert facts.site == "train.py:12"
    assert facts.tool_version == "0.1.0"
