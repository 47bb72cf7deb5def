"""Traces that are extreme in one way, of any size: what grows faster than the file shows when the size is multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fuzz.crafted import Event, mark, op

_STEPS = 8
_DEVICE = {"id": 0, "name": "NVIDIA A100-SXM4-80GB", "computeMajor": 8, "computeMinor": 0, "numSms": 108}
_PERIOD_US = 40  # from one operator to the next
_NODE = "autograd::engine::evaluate_function: MmBackward0"


def launch(
    at: int, number: int, *, name: str = "aten::mm", kernel: str = "gemm", stream: int = 7, **more: Any
) -> list[Event]:
    """An operator that launches a kernel, 40 us in all."""
    ids = {"External id": number, "correlation": number}
    shapes = {"Input Dims": [[64, 64], [64, 64]], "Input type": ["float", "float"]}
    where = {"device": 0, "stream": stream, "grid": [100, 1, 1], "block": [256, 1, 1]} | ids
    category = more.pop("category", "kernel")
    return [
        op(at, 20, name=name, args=shapes | {"External id": number} | more.pop("args", {}), tid=more.pop("tid", 1)),
        op(at + 5, 5, cat="cuda_runtime", name="cudaLaunchKernel", args=ids),
        op(at + 12, 25, cat=category, name=kernel, pid=0, tid=stream, args=where | more),
    ]


def in_steps(count: int, body: Callable[[int, int], list[Event]], steps: int = _STEPS) -> list[Event]:
    """So many pieces of work in these steps; a piece gets its time and its number."""
    each = max(count // steps, 1)
    length = each * _PERIOD_US + 50
    found = []
    for step in range(steps):
        begin = 1000 + step * length
        found.append(mark(step, begin, length - 5))
        for i in range(each):
            found += body(begin + 10 + i * _PERIOD_US, 1 + step * each + i)
    return found


def _one_step_each(count: int) -> list[Event]:
    return in_steps(count, launch, steps=count)


def _threads(count: int) -> list[Event]:
    return in_steps(count, lambda at, i: launch(at, i, tid=i))


def _streams(count: int) -> list[Event]:
    return in_steps(count, lambda at, i: launch(at, i, stream=i))


def _names(count: int) -> list[Event]:
    return in_steps(count, lambda at, i: launch(at, i, name=f"my::op_{i}", kernel=f"my_kernel_{i}"))


def _host_names(count: int) -> list[Event]:
    return in_steps(count, lambda at, i: [op(at, 30, name=f"aten::op_{i}", args={"External id": i})])


def _shapes(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        return launch(at, i, args={"Input Dims": [[i, 64], [64, i]]}, grid=[i, 1, 1])

    return in_steps(count, body)


def _copies(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        name = ("Memcpy HtoD (Pageable -> Device)", "Memcpy DtoH (Device -> Pageable)", "Memcpy DtoD")[i % 3]
        return launch(at, i, name="aten::copy_", kernel=name, category="gpu_memcpy", bytes=10**7 + i)

    return in_steps(count, body)


def _collectives(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        told: dict[str, Any] = {
            "Collective name": "allreduce",
            "dtype": "Float",
            "In msg nelems": 10**6 + i,
            "Group size": 8,
        }
        return launch(
            at, i, name="nccl:all_reduce", kernel="ncclDevKernel_AllReduce_Sum_f32_RING_LL", args=told, **told
        )

    return in_steps(count, body)


def _waits(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        call = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaMalloc", "cudaStreamWaitEvent", "cudaEventQuery")[
            i % 5
        ]
        return [
            *launch(at, i, stream=7 + i % 2),
            op(at + 21, 3, name="aten::item", args={"External id": -i % 2**31}),
            op(at + 22, 15, cat="cuda_runtime", name=call, args={"correlation": 10**7 + i}),
        ]

    return in_steps(count, body)


def _lines(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        frames = [
            op(
                at - 3 + d,
                38 - 2 * d,
                cat="python_function",
                name=f"train_{i}.py({d}): f",
                args={"Python id": 4 * i + d},
            )
            for d in range(3)
        ]
        return [*frames, *launch(at, i)]

    return in_steps(count, body)


def _modules(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        return [op(at - 2, 34, cat="python_function", name=f"nn.Module: Layer_{i}"), *launch(at, i)]

    return in_steps(count, body)


def _loops(count: int) -> list[Event]:
    """Loops over 8 parts, each another loop: their small operators, and the nodes of backward."""

    def body(at: int, i: int) -> list[Event]:
        loop = i // 24
        name = ("aten::select", "aten::mul", f"aten::op_{loop}")[i % 3]
        backward = op(at + 25, 10, name=_NODE, tid=2, args={"Sequence number": i, "External id": 10**7 + i})
        return [*launch(at, i, name=name, args={"Sequence number": i}), backward]

    return in_steps(count, body)


def _closures(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        node = op(at + 25, 10, name=_NODE, args={"Sequence number": i, "External id": 10**7 + i})
        return [*launch(at, i, args={"Sequence number": i}), node]

    events = in_steps(count, body)
    whole = [(e["ts"] + 5, e["dur"] - 10) for e in events if e["name"].startswith("ProfilerStep")]
    return [*events, *(op(a, d, name="Optimizer.step#LBFGS.step", cat="user_annotation") for a, d in whole)]


def _optimizer(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        return launch(at, i, name="aten::add_", kernel="void at::native::vectorized_elementwise_kernel<4>")

    events = in_steps(count, body)
    whole = [(e["ts"] + 5, e["dur"] - 10) for e in events if e["name"].startswith("ProfilerStep")]
    return [*events, *(op(a, d, name="Optimizer.step#AdamW.step", cat="user_annotation") for a, d in whole)]


def _fetches(count: int) -> list[Event]:
    return in_steps(count, lambda at, i: [op(at - 3, 2, name="enumerate(DataLoader)#_Next.__next__"), *launch(at, i)])


def _unmarked(count: int) -> list[Event]:
    return [e for i in range(1, count) for e in launch(i * _PERIOD_US, i, kernel=f"kernel_{i % 50}")]


def _graphs(count: int) -> list[Event]:
    """Launches of graphs with all kernels of a step."""

    def body(at: int, i: int) -> list[Event]:
        return launch(at, i)[2:]

    events = in_steps(count, body)
    graph = 0
    for event in events:
        if event["cat"] == "user_annotation":
            graph += 1
        else:
            event["args"]["correlation"] = graph
    calls = [
        op(e["ts"] + 1, 5, cat="cuda_runtime", name="cudaGraphLaunch", args={"correlation": i})
        for i, e in enumerate((e for e in events if e["cat"] == "user_annotation"), 1)
    ]
    return [*events, *calls]


def _declared_waits(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        record, wait = 10**7 + 2 * i, 10**7 + 2 * i + 1
        told = {"cuda_sync_kind": "Stream Wait Event", "stream": 8, "device": 0, "correlation": wait}
        return [
            *launch(at, i, stream=7 + i % 2),
            op(at + 21, 2, cat="cuda_runtime", name="cudaEventRecord", args={"correlation": record}),
            op(at + 24, 2, cat="cuda_runtime", name="cudaStreamWaitEvent", args={"correlation": wait}),
            op(at + 25, 2, cat="cuda_sync", name="Stream Wait Event", pid=0, tid=8,
               args=told | {"wait_on_stream": 7, "wait_on_cuda_event_record_corr_id": record}),
        ]  # fmt: skip

    return in_steps(count, body)


def _memory(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        told = {"Device Type": 1, "Device Id": 0, "Total Allocated": i * 512, "Total Reserved": i * 1024}
        return [*launch(at, i), {"ph": "i", "name": "[memory]", "pid": 1, "tid": 1, "ts": at, "args": told}]

    return in_steps(count, body)


def _nested(count: int) -> list[Event]:
    return [mark(1, -10, 2 * count), mark(2, 2 * count - 5, 50), *(op(i, 2 * (count - i)) for i in range(count))]


def _one_instant(count: int) -> list[Event]:
    return [e for i in range(count) for e in launch(1000, i + 1)]


def _held_at_once(count: int) -> list[Event]:
    """Kernels of two streams that all begin and end together, long after their launches, and queries that wait for them."""
    found = [mark(1, 900, 10 * count), mark(2, 900 + 10 * count, 500)]
    for i in range(count):
        call, kernel = launch(1000 + i, i + 1, stream=7 + i % 2)[1:]
        found += [call | {"dur": 1}, kernel | {"ts": 2000 + 2 * count, "dur": 5}]
        query = ("cudaEventQuery", "cudaEventSynchronize", "cudaStreamWaitEvent")[i % 3]
        ended = op(2000 + count + 3 * i, 2, cat="cuda_runtime", name=query, args={"correlation": 10**7 + i})
        found.append(ended)
    return found


def _streams_and_waits(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        call = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaStreamWaitEvent")[i % 3]
        kernel = "ncclDevKernel_AllReduce_Sum_f32_RING_LL" if i % 50 == 0 else "gemm"
        waited = op(at + 22, 15, cat="cuda_runtime", name=call, args={"correlation": 10**7 + i})
        return [*launch(at, i, stream=i, kernel=kernel), waited]

    return in_steps(count, body, steps=2)


def _straddling(count: int) -> list[Event]:
    """Many short steps, and kernels that are longer than they."""
    events = in_steps(count, launch, steps=max(count // 4, 1))
    return [e | {"dur": 2_000} if e["cat"] == "kernel" else e for e in events]


def _long_steps(count: int) -> list[Event]:
    """Every seventh step is long: half of the work in it."""
    events = in_steps(count, launch, steps=max(count // 8, 2))
    late = 0
    for event in sorted(events, key=lambda e: float(e["ts"])):
        if event["cat"] == "user_annotation" and int(event["name"].split("#")[1]) % 7 == 6:
            event["dur"] += 3000
            event["ts"] += late
            late += 3000
        else:
            event["ts"] += late
    return events


def _pairs(count: int) -> list[Event]:
    def body(at: int, i: int) -> list[Event]:
        first, *others = launch(at, i)
        begin = {k: v for k, v in first.items() if k != "dur"} | {"ph": "B"}
        return [begin, {"ph": "E", "pid": 1, "tid": 1, "ts": first["ts"] + 20}, *others]

    return in_steps(count, body)


EXTREMES: dict[str, Callable[[int], list[Event]]] = {
    "steps": _one_step_each,
    "threads": _threads,
    "streams": _streams,
    "names": _names,
    "names on the host alone": _host_names,
    "one name": lambda count: in_steps(count, launch),
    "shapes": _shapes,
    "copies": _copies,
    "collectives": _collectives,
    "waits": _waits,
    "declared waits": _declared_waits,
    "Python lines": _lines,
    "modules": _modules,
    "loops": _loops,
    "closures": _closures,
    "optimizer": _optimizer,
    "fetches": _fetches,
    "no marks": _unmarked,
    "graphs": _graphs,
    "memory": _memory,
    "nested": _nested,
    "one instant": _one_instant,
    "held at once": _held_at_once,
    "streams and waits": _streams_and_waits,
    "straddling kernels": _straddling,
    "long steps": _long_steps,
    "pairs": _pairs,
}


def document(events: list[Event]) -> dict[str, Any]:
    """A trace of these events, on a device whose peak is known."""
    return {"schemaVersion": 1, "deviceProperties": [_DEVICE], "traceEvents": events}
