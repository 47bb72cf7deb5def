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


def _multiplied(shapes: list[list[int]], times: int = 1, **where: Any) -> list[Event]:
    """Two steps of matrix products with these shapes, each on the device."""
    events = []
    for i in range(2 * times):
        call, kernel = launched(910 + 500 * (i % 2) + 10 * (i // 2), i + 1, args=where | {"External id": i + 1})
        kernel["name"] = "ampere_sgemm_128x64_tn"
        told = {"Input Dims": shapes, "Input type": ["float", "float"], "External id": i + 1}
        events += [op(call["ts"] - 1, 8, args=told), call, kernel]
    return steps(*events)


def _copied(size: int) -> list[Event]:
    name, more = "Memcpy HtoD (Pageable -> Device)", {"bytes": size}
    copies = (launched(910 + 500 * (i % 2) + i, i + 1, args=more, cat="gpu_memcpy", name=name) for i in range(12))
    return steps(*(event for pair in copies for event in pair))


def _sent(elements: int) -> list[Event]:
    told = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": elements, "Group size": 2**40}
    name = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"
    calls = (launched(910 + 500 * (i % 2) + i, i + 1, args=told, name=name) for i in range(12))
    return steps(*(event for pair in calls for event in pair))


def _optimizers() -> list[Event]:
    """Steps of two optimizers, each inside the one before."""
    kinds = ("AdamW", "SGD") * 3
    named = {"cat": "user_annotation"}
    return [op(1000 + 10 * i, 600 - 100 * i, name=f"Optimizer.step#{k}.step", **named) for i, k in enumerate(kinds)]


def _frames(line: str) -> list[Event]:
    return [op(905 + 10 * i, 8, cat="python_function", name=f"train.py({line}): f") for i in range(90)]


def _known(events: list[Event], tile: str = "128x64", **more: Any) -> bytes:
    """Steps on a device whose peak is known, with kernels of this tile."""
    device = {"id": 0, "name": "NVIDIA A100-SXM4-80GB", "numSms": 108}
    return trace(events, deviceProperties=[device], **more).replace(b"128x64_tn", f"{tile}_tn".encode())


def _deep(count: int) -> str:
    return "[" * count + "]" * count


BLANK = " " * 50_000
LONG_NAME = "aten::" + "mm_" * 7_000
DIGITS = "9" * 5_000  # more than Python makes a number of
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
    "FLOPs past 64 bits": lambda: trace(_multiplied([[2**22, 2**22]] * 2)),
    "FLOPs that sum past 64 bits": lambda: trace(_multiplied([[2**20, 2**20]] * 2, times=20)),
    "copies past 64 bits": lambda: trace(_copied(2**62)),
    "copies that sum past 64 bits": lambda: trace(_copied(2**42)),
    "messages past 64 bits": lambda: trace(_sent(2**62)),
    "a grid past 64 bits": lambda: trace(_multiplied([[64, 64]] * 2, grid=[2**40] * 3)),
    "durations that sum past 64 bits": lambda: trace(steps(*(op(1000 + i, 3e13) for i in range(400)))),
    "centuries between launch and kernel": lambda: trace(_on(0) + [e | {"ts": 3e15} for e in _on(0) if e["cat"] == "kernel"] * 9),
    "negative durations": lambda: trace(steps(op(1010, -5), *launched(1020, 9, dur=-30), mark(3, 1950, -50))),
    "before the clock's zero": lambda: trace(steps(op(-9e13), op(-1e14, 1e14))),
    "truth for numbers": lambda: trace(
        steps(op(True), op(1010, True), *_on(True)), deviceProperties=[{"id": True, "numSms": True}]
    ),
    "numbers in quotes": lambda: trace(steps(op("1010"), op(1010, "5"), op("٣", "1_0"), *_on("0"))),
    "keys twice": lambda: b'{"traceEvents":[],' + trace(steps(), schemaVersion=1)[1:].replace(b'"ts"', b'"ts":[],"ts"'),
    "no numbers": lambda: trace(steps(op(float("nan")), op(1010, float("inf")), *_on(float("-inf")))),
    "UTF-16": lambda: trace(steps()).decode().encode("utf-16"),
    "a byte order mark": lambda: b"\xef\xbb\xbf" + trace(steps()),
    "unwritten blocks": lambda: trace(steps()).replace(b", ", b"\0\0\0\0, ", 3) + b"\0" * 10_000,
    "halves of characters": lambda: trace(steps(op(1010, name="\ud800", args={"Input type": ["\udfff"]})), x="\ud800"),
    "steps that end in another order": lambda: trace(_optimizers() + [op(900 + 20 * i, 10) for i in range(40)]),
    "deep arguments": lambda: _broken(json.dumps(op(1010, args={"Input Dims": 0})).replace("0}}", _deep(900) + "}}")),
    "tiles of no size": lambda: _known(_multiplied([[64, 64]] * 2), "0x00"),
    "tiles of countless digits": lambda: _known(_multiplied([[64, 64]] * 2), f"{DIGITS}x{DIGITS}"),
    "matrices of no size": lambda: _known(_multiplied([[0, 64], [64, 64]])),
    "lines of countless digits": lambda: trace(steps(*_frames(DIGITS), *_on(0))),
    "versions of countless digits": lambda: trace(_on(0), mfu_doctor={"versions": {"torch": f"{DIGITS}.{DIGITS}"}}),
    "a rank of countless digits": lambda: trace(_on(0))[:-1] + f', "distributedInfo": {{"rank": {DIGITS}}}}}'.encode(),
    "a number of countless digits": lambda: trace(_on(0)).replace(b'"dur": 20', b'"dur": ' + DIGITS.encode() * 20),
    "nested templates": lambda: trace(_on(0, name="k" + "<" * 9_000 + ">" * 9_000)),
    "a name of megabytes": lambda: trace(_on(0, name="k" * 2_000_000)),
    "empty members": lambda: gzip.compress(b"") * 500 + gzip.compress(trace(_on(0))) + gzip.compress(b"") * 500,
    "no encoding at all": lambda: trace(steps(op(1010, args={"x": "y"}))).replace(b'"y"', b'"\xe1\xff"'),
    "a bomb": lambda: gzip.compress(b'{"traceEvents":[' + json.dumps(op(1)).encode() + b"," + b" " * (48 << 20)),
}  # fmt: skip


def inputs() -> Iterator[tuple[str, bytes]]:
    """Each crafted input with its name."""
    for name, make in CRAFTED.items():
        yield name, make()
