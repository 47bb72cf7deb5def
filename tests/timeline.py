"""Draw a timeline in microseconds, get a `Trace`: how tests state the situation that a rule or the replay must judge.

t = Timeline()
with t.step():                      # ProfilerStep#0, host side
    t.fetch(300)                    # DataLoader __next__ for 300 us
    t.op("aten::mm", kernel=500)    # 10 us of host time, launches a 500 us kernel
trace = t.trace()
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mfu_doctor.trace import Trace
from tests.reference import from_json

HOST, WORKER = 100, 200
STREAM = 7
FETCH = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"


class Timeline:
    """A host thread that issues work and a device with in-order streams, simulated as simply as possible."""

    def __init__(
        self, *, device: str | None = "NVIDIA A100-SXM4-80GB", sms: int = 108, launch_latency: int = 5
    ) -> None:
        self.now = 0
        self.free: dict[int, int] = {}
        self.events: list[dict[str, Any]] = []
        self.latency = launch_latency
        self.ids = 0
        self.steps = 0
        self.header: dict[str, Any] = {"deviceProperties": []}
        if device is not None:
            props = {"id": 0, "name": device, "computeMajor": 8, "computeMinor": 0, "numSms": sms}
            self.header["deviceProperties"] = [props | {"totalGlobalMem": 85_000_000_000}]

    def add(
        self, cat: str, name: str, start: int, dur: int, *, tid: int = HOST, pid: int = 1, **args: Any
    ) -> dict[str, Any]:
        """Append one raw event; `args` keys use underscores for spaces in the known names below."""
        spelled = {
            "external_id": "External id",
            "dims": "Input Dims",
            "types": "Input type",
            "concrete": "Concrete Inputs",
        }
        spelled |= {"sequence": "Sequence number", "strides": "Input Strides", "blocks_per_sm": "blocks per SM"}
        spelled |= {"call_stack": "Call stack"}
        named = {spelled.get(key, key): value for key, value in args.items() if value is not None}
        event = {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": start, "dur": dur, "args": named}
        self.events.append(event)
        return event

    @contextmanager
    def span(self, name: str, cat: str = "user_annotation", **args: Any) -> Iterator[None]:
        """A host-side span around what is issued inside."""
        start = self.now
        yield
        self.add(cat, name, start, self.now - start, **args)

    @contextmanager
    def step(self) -> Iterator[None]:
        """A ProfilerStep# span."""
        name = f"ProfilerStep#{self.steps}"
        self.steps += 1
        with self.span(name):
            yield

    def python(self, us: int) -> None:
        """Host time in which no operator runs."""
        self.now += us

    def fetch(self, us: int, name: str = FETCH) -> None:
        """The training thread waits for a batch."""
        with self.span(name):
            self.now += us

    def call(self, name: str, us: int, *, cat: str = "cuda_runtime", **args: Any) -> dict[str, Any]:
        """A runtime call of fixed cost."""
        event = self.add(cat, name, self.now, us, **args)
        self.now += us
        return event

    def device(
        self, name: str, us: int, *, stream: int = STREAM, cat: str = "kernel", ready: int = 0, **args: Any
    ) -> int:
        """Queue device work now; returns its end. `ready` is an extra earliest start (events waited for)."""
        start = max(self.now + self.latency, self.free.get(stream, 0), ready)
        self.free[stream] = start + us
        self.add(cat, name, start, us, pid=0, tid=stream, device=0, stream=stream, **args)
        return start + us

    def op(
        self, name: str, *, kernel: int | None = None, host: int = 10, kernel_name: str | None = None, **args: Any
    ) -> int:
        """A CPU operator of `host` us that launches one kernel of `kernel` us in its last 4 us; returns the kernel's end."""
        self.ids += 1
        start, stream = self.now, args.pop("stream", STREAM)
        cat, launch, grid = (
            args.pop("cat", "kernel"),
            args.pop("launch", "cudaLaunchKernel"),
            args.pop("grid", [1000, 1, 1]),
        )
        ready, end = args.pop("ready", 0), 0
        extra = {"bytes": args.pop("bytes", None)}
        if kernel is not None:
            self.now = start + max(host - 4, 0)
            ids: dict[str, Any] = {"correlation": self.ids, "external_id": self.ids}
            self.call(launch, min(4, host), **ids)
            end = self.device(
                kernel_name or name, kernel, stream=stream, cat=cat, ready=ready, grid=grid, **ids, **extra
            )
        self.now = start + host
        self.add("cpu_op", name, start, host, external_id=self.ids, **args)
        return end

    def sync(self, name: str = "cudaStreamSynchronize", *, stream: int = STREAM, tail: int = 2) -> None:
        """Block until the stream (every stream for cudaDeviceSynchronize) is drained."""
        streams = self.free.values() if name == "cudaDeviceSynchronize" else [self.free.get(stream, 0)]
        end = max(self.now, *streams, 0) + tail
        self.add("cuda_runtime", name, self.now, end - self.now, correlation=self._id())
        self.now = end

    def item(self, copy_us: int = 2) -> None:
        """`loss.item()`: a device-to-host copy of 4 bytes and a stream synchronise inside aten::_local_scalar_dense."""
        with (
            self.span("aten::item", "cpu_op", external_id=self._id()),
            self.span("aten::_local_scalar_dense", "cpu_op", external_id=self._id()),
        ):
            ids: dict[str, Any] = {"correlation": self._id()}
            self.call("cudaMemcpyAsync", 4, **ids)
            self.device("Memcpy DtoH (Device -> Pageable)", copy_us, cat="gpu_memcpy", bytes=4, **ids)
            self.sync()

    def _id(self) -> int:
        self.ids += 1
        return self.ids

    def json(self) -> dict[str, Any]:
        """The drawn trace as a Kineto object."""
        return self.header | {"traceEvents": self.events}

    def trace(self) -> Trace:
        """The drawn trace."""
        return from_json(self.json())
