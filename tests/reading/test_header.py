"""What stands before and after the events: only known keys are read, wherever they are, and secrets never get in."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from msgspec import Struct, to_builtins
from msgspec.structs import astuple

from mfu_doctor.facts import Facts, HostFacts, Window
from mfu_doctor.reading import read_trace
from mfu_doctor.reading.clock import TRIMONTH_NS
from mfu_doctor.trace import ProcessGroup, Trace
from tests.reading.layouts import LAYOUTS, native, torch_2_13
from tests.reading.test_damage import BASE, SPAN, drawn, numbers

SECRET = "hf_AbCdEf0123456789"


def read(data: bytes) -> Trace:
    return read_trace(io.BytesIO(data))


def everything(value: Any) -> str:
    """All that a trace holds, as one text."""
    if isinstance(value, Struct):
        return " ".join(map(everything, astuple(value)))
    if isinstance(value, (tuple, list)):
        return " ".join(map(everything, value))
    return str(value.tolist()) if isinstance(value, np.ndarray) else str(value)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_captured_environment_never_survives(layout: Any) -> None:
    data = drawn(10)
    data["metadata"] = {"env": {"HF_TOKEN": SECRET}, "record_shapes": 1}
    data["env"] = {"AWS_SECRET_ACCESS_KEY": SECRET}
    data["traceEvents"][3]["args"]["env"] = SECRET
    trace = read(layout(data))
    assert SECRET not in everything(trace)
    assert trace.recorded.shapes is True


def test_a_secret_in_a_damaged_header_does_not_survive_either() -> None:
    data = native(drawn(10)).replace(
        b'"traceName"', b'"env": {"TOKEN": "' + SECRET.encode() + b'", "x": "a "b""}, "traceName"'
    )
    trace = read(data)
    assert trace.problems
    assert SECRET not in everything(trace)


def test_facts_that_this_version_does_not_know_are_passed_over() -> None:
    """An older version counted page faults, a newer one may count something else."""
    data = drawn(10) | {
        "mfu_doctor": {"version": 1, "rank": 3, "host": {"cores": 8, "page_faults_per_s": 9e4}, "new": []}
    }
    trace = read(torch_2_13(data))
    assert trace.facts is not None
    assert (trace.facts.rank, trace.facts.host) == (3, HostFacts(cores=8))
    assert not [p for p in trace.problems if p.kind == "bad-facts"]


def test_facts_with_wrong_types_are_a_problem_and_not_an_error() -> None:
    data = drawn(10) | {"mfu_doctor": {"version": 1, "rank": "zero"}}
    trace = read(torch_2_13(data))
    assert trace.facts is None
    assert [p.kind for p in trace.problems] == ["bad-facts"]


def test_facts_of_a_newer_version_are_read_as_far_as_known() -> None:
    data = drawn(10) | {"mfu_doctor": {"version": 99, "site": "train.py:1", "something": {"new": 1}}}
    trace = read(torch_2_13(data))
    assert trace.facts is not None
    assert trace.facts.site == "train.py:1"
    assert [p.kind for p in trace.problems] == ["bad-facts"]


def test_a_lost_base_is_recovered_from_the_windows_that_capture_wrote() -> None:
    """Kineto counts from a multiple of 7,889,238 s, so knowing roughly when is knowing exactly."""
    assert BASE % TRIMONTH_NS == 0
    data = drawn(10)
    del data["baseTimeNanoseconds"]
    start = BASE + SPAN - 1_000_000
    windows = (Window(kind="timing", start_ns=start, end_ns=start + 5_000_000, steps=1),)
    facts = to_builtins(Facts(windows=windows))
    trace = read(native(data | {"mfu_doctor": facts}))
    assert trace.origin_ns == BASE + SPAN
    assert trace.problems == ()


def test_a_window_far_from_the_events_recovers_nothing() -> None:
    data = drawn(10)
    del data["baseTimeNanoseconds"]
    windows = (Window(kind="timing", start_ns=BASE + 10**9, end_ns=BASE + 2 * 10**9, steps=1),)
    trace = read(native(data | {"mfu_doctor": to_builtins(Facts(windows=windows))}))
    assert trace.origin_ns == 0
    assert [p.kind for p in trace.problems] == ["no-base-time"]


def test_a_huge_key_after_the_events_is_not_taken_for_events() -> None:
    filler = [{"ph": "X", "name": f"x{i}", "ts": i, "dur": 1} for i in range(20_000)]
    data = native(drawn(10)).decode()
    tail = f',\n  "unknown": {json.dumps(filler)},\n  "cupti_version": 22\n}}'
    trace = read((data.rstrip().removesuffix("}").rstrip() + tail).encode())
    assert numbers(trace) == list(range(10))
    assert trace.versions == (("cupti", "22"),)
    assert trace.origin_ns == BASE + SPAN
    assert trace.problems == ()


def test_the_python_exporter_puts_the_multiprocessors_in_another_key() -> None:
    data = drawn(10)
    data["deviceProperties"] = [{"id": 0, "name": "NVIDIA H100", "maxThreadsPerMultiprocessor": 132}]
    assert read(native(data)).devices[0].sms == 132
    data["deviceProperties"] = [{"id": 0, "name": "NVIDIA H100", "maxThreadsPerMultiprocessor": 2048}]
    assert read(native(data)).devices[0].sms is None


@pytest.mark.parametrize("value", ["null", "3", '"x"', "[1, null]", '{"a": 1}'])
@pytest.mark.parametrize(
    "key", ["deviceProperties", "distributedInfo", "baseTimeNanoseconds", "record_shapes", "cuda_runtime_version"]
)
def test_known_keys_with_odd_values_are_unknown(key: str, value: str) -> None:
    data = {k: v for k, v in drawn(10).items() if k != key}
    body = native(data).decode().rstrip().removesuffix("}").rstrip()
    assert numbers(read(f'{body}, "{key}": {value}\n}}'.encode())) == list(range(10))


def test_on_demand_traces_write_the_place_in_the_job_as_text() -> None:
    data = drawn(10) | {"distributedInfo": {"rank": "3", "world_size": "8", "backend": "nccl", "ranks": "[0, 1]"}}
    spread = read(native(data)).distributed
    assert (spread.rank, spread.world_size, spread.backend) == (3, 8, "nccl")


def test_a_run_of_more_ranks_than_can_be_has_an_unknown_size() -> None:
    """A report on 200,000,000 ranks listed all that had no trace, and took all memory."""
    for size, told in ((200_000_000, None), (0, None), (-4, None), (2**20, 2**20)):
        spread = read(native(drawn(10) | {"distributedInfo": {"rank": 0, "world_size": size}})).distributed
        assert (spread.rank, spread.world_size) == (0, told)
    trace = read(torch_2_13(drawn(10) | {"mfu_doctor": {"version": 1, "world_size": 200_000_000}}))
    assert trace.facts is None
    assert [p.kind for p in trace.problems] == ["bad-facts"]


def test_the_process_groups_of_a_job_are_listed() -> None:
    listed: list[Any] = [
        {"pg_name": "0", "pg_desc": "default_pg", "backend_config": "cuda:nccl", "pg_size": 2, "ranks": [0, 1]},
        {"pg_name": 7, "pg_size": -1, "ranks": "[0, ...]"},
        {"ranks": [[1]]},
        "x",
    ]
    data = drawn(10) | {"host_name": "node7", "distributedInfo": {"rank": 0, "pg_config": listed}}
    trace = read(native(data))
    assert trace.host == "node7"
    assert trace.distributed.groups == (
        ProcessGroup("0", "default_pg", "cuda:nccl", 2, (0, 1)),
        ProcessGroup("7"),
        ProcessGroup(""),
    )
    assert read(native(drawn(10) | {"distributedInfo": {"pg_config": 3}})).distributed.groups == ()


def test_a_bare_list_has_no_header() -> None:
    data = native(drawn(10))
    start = data.index(b"[", data.index(b"traceEvents"))
    trace = read(data[start : data.rindex(b"]") + 1])
    assert numbers(trace) == list(range(10))
    assert trace.devices == ()
    assert [p.kind for p in trace.problems] == ["no-base-time"]
    unclosed = read(data[start : data.rindex(b"]")])
    assert numbers(unclosed) == list(range(10))
    assert [p.kind for p in unclosed.problems] == ["no-footer", "no-base-time"]
