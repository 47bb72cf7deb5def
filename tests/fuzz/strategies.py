"""Traces over the format: mostly what a profiler writes, here and there what it never would."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.mutants import STRANGE as VALUES

Event = dict[str, Any]

STRANGE: st.SearchStrategy[Any] = st.sampled_from(VALUES)
OPS = (
    "aten::mm", "aten::addmm", "aten::convolution", "aten::copy_", "aten::item", "aten::_foreach_add_", "aten::linear",
    "aten::gelu", "aten::scaled_dot_product_attention", "autograd::engine::evaluate_function: MmBackward0",
    "enumerate(DataLoader)#_Next",
    "Optimizer.step#AdamW.step", "Optimizer.zero_grad#AdamW.zero_grad", "nccl:all_reduce", "aten::nonzero", "[memory]",
)  # fmt: skip
CALLS = (
    "cudaLaunchKernel", "cudaMemcpyAsync", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMalloc", "cudaEventRecord",
    "cudaGraphLaunch", "hipLaunchKernel",
)  # fmt: skip
KERNELS = (
    "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn", "void at::native::vectorized_elementwise_kernel<4>",
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL", "Memcpy HtoD (Pageable -> Device)", "Memset (Device)", "flash_fwd_kernel",
)  # fmt: skip
DEVICES = ("NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "AMD Instinct MI300X", "Tesla T4", "", "Unknown 9000")
SHAPES = st.lists(st.lists(st.integers(0, 4096), max_size=4), max_size=4)


@st.composite
def traces(draw: st.DrawFn, *, strange: bool = True) -> dict[str, Any]:
    """The content of a trace file; without strange values each event can be."""
    count = draw(st.integers(0, 5))
    length = draw(st.sampled_from([0, 1, 40, 1_000, 20_000]))
    events: list[Event] = []
    for number in range(count):
        begin = 1_000 + number * (length + 3)
        if draw(st.booleans()):
            events.append(_event(f"ProfilerStep#{number}", "user_annotation", begin, length))
        for _ in range(draw(st.integers(0, 5))):
            events += draw(_work(begin, length, len(events) + 1))
    if strange and events:
        for _ in range(draw(st.integers(0, 3))):
            draw(_spoilt(events))
    header: dict[str, Any] = {"schemaVersion": 1, "baseTimeNanoseconds": 0}
    if draw(st.booleans()):
        header["deviceProperties"] = [
            {"id": 0, "name": draw(st.sampled_from(DEVICES)), "numSms": draw(st.integers(1, 200))}
        ]
    if strange and draw(st.booleans()):
        key = draw(
            st.sampled_from(
                ["deviceProperties", "distributedInfo", "record_shapes", "mfu_doctor", "baseTimeNanoseconds"]
            )
        )
        header[key] = draw(
            STRANGE | st.lists(st.dictionaries(st.sampled_from(["id", "name", "numSms", "rank"]), STRANGE))
        )
    return header | {"traceEvents": events}


def _event(name: str, category: str, ts: float, dur: float, **more: Any) -> Event:
    return {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur} | more


@st.composite
def _work(draw: st.DrawFn, begin: int, length: int, correlation: int) -> list[Event]:
    """An operator, with a kernel that it launches or without."""
    at = begin + draw(st.integers(0, max(length, 1)))
    took = draw(st.integers(0, max(length // 3, 1)))
    shapes = draw(SHAPES)
    args = {"External id": correlation, "Input Dims": shapes, "Input type": ["c10::BFloat16"] * len(shapes)}
    found = [_event(draw(st.sampled_from(OPS)), "cpu_op", at, took, tid=draw(st.sampled_from([1, 1, 2])), args=args)]
    if draw(st.booleans()):
        linked = {"correlation": correlation, "External id": correlation}
        found.append(_event(draw(st.sampled_from(CALLS)), "cuda_runtime", at, draw(st.integers(0, 3)), args=linked))
        name = draw(st.sampled_from(KERNELS))
        category = (
            "gpu_memcpy" if name.startswith("Memcpy") else "gpu_memset" if name.startswith("Memset") else "kernel"
        )
        where = {
            "device": 0,
            "stream": draw(st.sampled_from([7, 20])),
            "grid": [draw(st.integers(0, 500)), 1, 1],
            "block": [256, 1, 1],
        }
        late = at + draw(st.integers(-5, 200))
        found.append(
            _event(name, category, late, draw(st.integers(0, 300)), pid=0, tid=where["stream"], args=where | linked)
        )
    return found


@st.composite
def _spoilt(draw: st.DrawFn, events: list[Event]) -> None:
    """Put a strange value somewhere into one of these events."""
    event = events[draw(st.integers(0, len(events) - 1))]
    into = event["args"] if isinstance(event.get("args"), dict) and draw(st.booleans()) else event
    into[draw(st.sampled_from([*into, "device", "stream", "Sequence number", "bytes", "Collective name"]))] = draw(
        STRANGE
    )
