"""Real files from real accelerators, through all years of the format: the fast reader equals the slow one."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from mfu_doctor.reading import read_trace
from mfu_doctor.trace import Category
from tests import reference
from tests.reading.same import assert_same
from tests.traces import real_trace

NAMES = [
    "a100_alexnet_sync_events",
    "a100_dlrm_rank3of8",
    "a100_resnet50_ddp_rank0of2",
    "cpu_gloo_rank34of300",
    "h100_bert_small_inference",
    "h100_timesformer_inference",
    "mi250_minitoy_train",
    "mi300x_inductor_triton",
    "mi300x_resnet_checkpoint_rank0of8",
    "two_ranks/rank0",
    "two_ranks/rank1",
    "v100_resnet50_workers0",
    "vllm_decode_graph",
]


def path_of(name: str) -> Path:
    return real_trace(f"{name}.pt.trace.json.gz")


@pytest.mark.parametrize("name", NAMES)
def test_every_element_of_a_real_trace_equals_the_slow_reader(name: str) -> None:
    path = path_of(name)
    trace = read_trace(path)
    assert_same(trace, reference.load(path))
    assert trace.problems == ()


def test_a_plain_file_and_a_stream_give_the_same_as_gzip() -> None:
    path = path_of("mi250_minitoy_train")
    plain = gzip.decompress(path.read_bytes())
    assert_same(read_trace(io.BytesIO(plain)), reference.load(path))


def test_allocator_events_of_2021_state_no_total_and_give_no_samples() -> None:
    assert read_trace(path_of("v100_resnet50_workers0")).memory is None


def test_allocator_totals_are_those_of_the_accelerator() -> None:
    memory = read_trace(path_of("h100_bert_small_inference")).memory
    assert memory is not None
    assert set(memory.device.tolist()) == {0}
    assert memory.allocated.max() == 94_058_496 or memory.allocated.max() > 90_000_000
    assert (memory.reserved >= memory.allocated).all()


def test_rocm_copies_take_their_size_from_the_call() -> None:
    trace = read_trace(path_of("mi250_minitoy_train"))
    calls = [r for r in trace.rows(Category.RUNTIME).tolist() if trace.name_of(r) == "hipMemcpyWithStream"]
    sizes = [args.copy_bytes for r in calls if (args := trace.args_of(r)) is not None]
    assert sizes == [2560, 2560]
