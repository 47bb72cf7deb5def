"""Traces in which many of two things meet: streams and annotations, groups and ranks, threads and operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fuzz.crafted import Event, op
from tests.fuzz.extremes import in_steps, launch

_RANKS = 64
_ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"


def _groups(count: int) -> list[Event]:
    """Collectives, each of another process group with many ranks."""

    def body(at: int, i: int) -> list[Event]:
        told: dict[str, Any] = {
            "Collective name": "allreduce",
            "dtype": "Float",
            "In msg nelems": 10**6,
            "Group size": _RANKS,
            "Process Group Name": str(i),
            "Process Group Description": f"group {i}",
            "Process Group Ranks": str([(i + j) % (2 * _RANKS) for j in range(_RANKS)]),
        }
        return launch(at, i, name="nccl:all_reduce", kernel=_ALL_REDUCE, stream=7 + i % 40, args=told, **told)

    return in_steps(count, body)


def _flows(count: int) -> list[Event]:
    """Kernels that arrows lead to, from their launches and from forward to backward."""

    def body(at: int, i: int) -> list[Event]:
        arrow = {"name": "ac2g", "cat": "ac2g", "id": i}
        forward = {"name": "fwdbwd", "cat": "fwdbwd", "id": i}
        return [
            *launch(at, i),
            arrow | {"ph": "s", "pid": 1, "tid": 1, "ts": at + 5},
            arrow | {"ph": "f", "bp": "e", "pid": 0, "tid": 7, "ts": at + 12},
            forward | {"ph": "s", "pid": 1, "tid": 1, "ts": at},
            forward | {"ph": "f", "bp": "e", "pid": 1, "tid": 2, "ts": at + 20},
        ]

    return in_steps(count, body)


def _threads_and_operators(count: int) -> list[Event]:
    """As many threads as operators on each; every operator is in a node of backward and in a frame of Python."""
    threads = max(int(count**0.5), 1)

    def body(at: int, i: int) -> list[Event]:
        thread = 10 + i % threads
        node = op(at - 2, 30, name="autograd::engine::evaluate_function: MmBackward0", tid=thread)
        frame = op(at - 3, 34, cat="python_function", name=f"train.py({1 + i % 50}): f", tid=thread)
        return [frame, node, *launch(at, i, tid=thread)]

    return in_steps(count, body)


def _annotated_streams(count: int) -> list[Event]:
    """Streams with a kernel and an annotation each, and waits that host threads make for them."""

    def body(at: int, i: int) -> list[Event]:
        where = {"device": 0, "stream": i}
        return [
            *launch(at, i, stream=i),
            op(at + 11, 27, cat="gpu_user_annotation", name=f"part {i % 20}", pid=0, tid=i, args=where),
            op(at + 22, 15, cat="cuda_runtime", name="cudaEventSynchronize", args={"correlation": 10**7 + i}),
        ]

    return in_steps(count, body)


def _over_all(count: int) -> list[Event]:
    """Many short steps, kernels across their edges, and one kernel that is longer than all of them."""
    events = in_steps(count, launch, steps=max(count // 4, 1))
    kernels = [event for event in events if event["cat"] == "kernel"]
    for event in kernels:
        event["dur"] = 130
    whole = op(990, events[-1]["ts"], cat="kernel", name="gemm", pid=0, tid=8, args={"device": 0, "stream": 8})
    return [*events, whole | {"args": kernels[0]["args"] | {"stream": 8}}]


def _alternating_steps(count: int) -> list[Event]:
    """Every other step is long, as those of a program that evaluates as often as it trains."""
    events = in_steps(count, launch, steps=max(count // 4, 2))
    late = 0
    for event in sorted(events, key=lambda e: float(e["ts"])):
        event["ts"] += late
        if event["cat"] == "user_annotation" and int(event["name"].split("#")[1]) % 2:
            event["dur"] += 800
            late += 800
    return events


def _syncs_of_one_stream(count: int) -> list[Event]:
    """One stream that works throughout, another one that works once, and a wait after each operation."""

    def body(at: int, i: int) -> list[Event]:
        call = ("cudaStreamSynchronize", "cudaDeviceSynchronize")[i % 2]
        return [*launch(at, i), op(at + 22, 16, cat="cuda_runtime", name=call, args={"correlation": 10**7 + i})]

    events = in_steps(count, body, steps=2)
    return [*events, *launch(int(events[-1]["ts"]) + 60, 2 * count, stream=30)]


def _nested_names(count: int) -> list[Event]:
    """Kernels whose templates are nested a hundred levels deep, each with another name."""
    return in_steps(
        count // 8, lambda at, i: launch(at, i, kernel=f"void k{i}" + "<a, " * 100 + "b" + ">" * 100 + "(int)")
    )


CROWDS: dict[str, Callable[[int], list[Event]]] = {
    "groups of ranks": _groups,
    "flows": _flows,
    "threads and operators": _threads_and_operators,
    "annotated streams": _annotated_streams,
    "a kernel over all steps": _over_all,
    "every other step long": _alternating_steps,
    "waits for one stream": _syncs_of_one_stream,
    "nested templates": _nested_names,
}
