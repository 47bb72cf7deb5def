"""A minimal input of each kind that once ended in a traceback, hung, or took more memory than its size allows; drawn here."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

Event = dict[str, Any]


def op(ts: Any, dur: Any = 50, **more: Any) -> Event:
    return {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": ts, "dur": dur} | more


def mark(number: Any, ts: Any, dur: Any = 500) -> Event:
    return op(ts, dur, cat="user_annotation", name=f"ProfilerStep#{number}")


def launched(ts: int, correlation: int, **more: Any) -> list[Event]:
    call = op(ts, 2, cat="cuda_runtime", name="cudaLaunchKernel", args={"correlation": correlation})
    kernel = op(ts + 10, 20, cat="kernel", name="k", pid=0, tid=7)
    kernel["args"] = {"device": 0, "stream": 7, "correlation": correlation} | more.pop("args", {})
    return [call, kernel | more]


def steps(*extra: Event) -> list[Event]:
    """Two steps with an operator each, and these events."""
    return [mark(1, 900), mark(2, 1400), op(1000), op(1500), *extra]


def trace(events: list[Event], **header: Any) -> bytes:
    return json.dumps(header | {"traceEvents": events}).encode()


def _broken(middle: str) -> bytes:
    sound = [json.dumps(op(1000 + 100 * i)) for i in range(20)]
    return ('{"traceEvents":[' + ",\n".join([*sound[:10], middle, *sound[10:]]) + "]}").encode()


def _on(device: Any, **more: Any) -> list[Event]:
    return steps(*(event for i in (1, 2) for event in launched(510 + 500 * i, i, args={"device": device}, **more)))


def _deep(count: int) -> str:
    return "[" * count + "]" * count


BLANK = " " * 50_000
LONG_NAME = "aten::" + "mm_" * 7_000
SPANS = [op(i, 100_000 - 2 * i) for i in range(10_000)]

CRAFTED: dict[str, Callable[[], bytes]] = {
    "step numbers past 64 bits": lambda: trace([mark(10**20, 900), mark(10**20 + 1, 1400), op(1000), op(1500)]),
    "mixed shapes": lambda: trace(steps(op(1010, args={"Input Dims": [5, [3, [1]]], "Input type": ["float", "float"]}))),
    "huge shapes": lambda: trace(steps(op(1010, args={"Input Dims": [[2**62, 2**62]] * 2, "Input type": ["float"] * 2}))),
    "processes like codes": lambda: trace(steps(op(1010, pid=-(2**60)), op(1020, pid="a", tid=-(2**52)), op(1030, pid=-1e300))),
    "deep header": lambda: trace(steps())[:-1] + b', "x": %s}' % _deep(50_000).encode(),
    "deep event": lambda: _broken(f'{{"ph":"X","ts":1,"x":{_deep(50_000)}}}'),
    "deep and open": lambda: b'{"traceEvents":[' + json.dumps(op(1)).encode() + b",\n" + b"[" * 1_000_000,
    "marks of no length": lambda: trace([mark(1, 900, 0), mark(2, 900, 0), op(900, 0), op(899, 1), op(900, 5)]),
    "marks and kernels at once": lambda: trace([mark(i, 900, 0) for i in range(3)] + launched(900, 1) + launched(900, 2)),
    "optimizer at one instant": lambda: trace([op(5, 0, name="Optimizer.step#SGD.step")] * 5 + [op(1), op(9)]),
    "device of billions": lambda: trace(_on(1_500_000_000)),
    "device in words": lambda: trace(_on("GPU 90071992547409")),
    "no possible device": lambda: trace(_on(-7, pid=10**12)),
    "properties of other types": lambda: trace(_on(0), deviceProperties=[{"id": [], "name": 5, "numSms": {}}, 3]),
    "no units": lambda: trace(_on(0), deviceProperties=[{"id": 0, "name": "NVIDIA A100-SXM4-80GB", "numSms": 0}]),
    "countless units": lambda: trace(_on(0), deviceProperties=[{"id": 0, "name": "NVIDIA A100-SXM4-80GB", "numSms": 10**400}]),
    "memory in words": lambda: trace(steps({"ph": "X", "name": "[memory]", "ts": 1, "args": {"Device Type": "x"}})),
    "times in lists": lambda: trace(steps(op([1]), {"ph": "i", "ts": [1], "name": "x"}, {"ph": "s", "id": 1, "ts": [1]})),
    "times past all clocks": lambda: trace(steps(op(1e300), op(-1e300), op(1, 1e300), op(3e15, 3e15), op(-5e14))),
    "decimal times past all clocks": lambda: trace([op(1710000000001000.5), op(9999990000001500.25)]),
    "facts of nonsense": lambda: trace(steps(), mfu_doctor={"timed_steps_s": [1e308, -1.0], "rank": 10**30}),
    "no events": lambda: trace([], schemaVersion=1),
    "no text": lambda: b"\xff\xfe" * 500,
    "white space in an event": lambda: _broken('{"ph":"X","name":"a "b" c",' + BLANK + '"args":{' + BLANK + "oops"),
    "white space between events": lambda: _broken("}" + BLANK + "oops,"),
    "quotes": lambda: _broken('{"ph":"X","name":"' + '\\"' * 20_000),
    "names in a name": lambda: _broken('{"ph":"X",' + '"name":"a' * 10_000),
    "nested operators": lambda: trace(SPANS),
    "one instant": lambda: trace([op(5, 10)] * 10_000),
    "more steps than are listed": lambda: trace([event for i in range(20_002) for event in (mark(i, 10 * i, 9), op(10 * i, 5))]),
    "streams": lambda: trace([e for i in range(3_000) for e in launched(10 * i, i + 1, tid=i, args={"stream": i})]),
    "more threads than are told apart": lambda: trace([op(i, tid=i) for i in range(33_000)]),
    "long names": lambda: trace(steps(*(op(1000 + i, 1, name=LONG_NAME + str(i)) for i in range(50)))),
    "a bomb": lambda: gzip.compress(b'{"traceEvents":[' + json.dumps(op(1)).encode() + b"," + b" " * (48 << 20)),
}  # fmt: skip


def inputs() -> Iterator[tuple[str, bytes]]:
    """Each crafted input with its name."""
    for name, make in CRAFTED.items():
        yield name, make()
