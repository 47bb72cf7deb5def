"""Situations that several rules are tested on: steps of one kind, drawn in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.timeline import Timeline

COMMUNICATION = 20  # stream of collectives
NCCL = {
    "allreduce": "ncclDevKernel_AllReduce_Sum_f32_RING_LL",
    "allgather": "ncclDevKernel_AllGather_RING_LL",
    "broadcast": "ncclDevKernel_Broadcast_RING_LL",
}
POINTWISE = "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>"
SGEMM = "ampere_sgemm_128x128_tn"
TENSOR = "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_tn"
BF16 = "c10::BFloat16"
BF16_PEAK = 312e12  # A100 SXM4 80 GB
WORKERS = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"
MILLION = 1 << 20  # elements
MEGABYTE = 1 << 20  # bytes


def steps(body: Callable[[Timeline], None], count: int = 6, *, device: bool = True) -> Timeline:
    """So many equal steps."""
    drawn = Timeline() if device else Timeline(device=None)
    for _ in range(count):
        with drawn.step():
            body(drawn)
    return drawn


def training(drawn: Timeline) -> Timeline:
    """The same with something that runs backward after its steps: without it a trace is inference."""
    drawn.add("cpu_op", "SumBackward0", drawn.now, 1)
    return drawn


def compute(drawn: Timeline, us: int, *, host: int = 10, **args: Any) -> None:
    """One matrix product."""
    drawn.op("aten::mm", kernel=us, host=host, kernel_name=SGEMM, **args)


def collective(
    drawn: Timeline, us: int, *, size: int, kind: str = "allreduce", after: bool = True, ranks: int = 8
) -> None:
    """A collective of `size` fp32 elements; with `after` it starts when the computation so far has ended."""
    ready = drawn.free.get(7, 0) if after else 0
    drawn.op(f"c10d::{kind}_", kernel=us, kernel_name=NCCL[kind], stream=COMMUNICATION, ready=ready)
    told = {"Collective name": kind, "dtype": "Float", "In msg nelems": size, "Group size": ranks}
    drawn.events[-2]["args"] |= told


def wait_for_collectives(drawn: Timeline, us: int = 50) -> None:
    """Computation that needs what was communicated, and a host that waits for it."""
    drawn.call("cudaStreamWaitEvent", 2)
    drawn.op("aten::add_", kernel=us, ready=drawn.free.get(COMMUNICATION, 0))
    drawn.sync("cudaDeviceSynchronize")


def upload(drawn: Timeline, us: int, size: int, *, pinned: bool = True, op: str = "aten::copy_", **args: Any) -> None:
    """A copy to the device inside its operator, waited for as PyTorch does without non_blocking."""
    name = "Memcpy HtoD (Pinned -> Device)" if pinned else "Memcpy HtoD (Pageable -> Device)"
    ids: dict[str, Any] = {"correlation": drawn._id(), "external_id": drawn.ids}
    with drawn.span(op, "cpu_op", external_id=drawn.ids, **args):
        drawn.call("cudaMemcpyAsync", 4, **ids)
        drawn.device(name, us, cat="gpu_memcpy", bytes=size, **ids)
        drawn.sync()


def products(m: int, n: int, k: int, us: int, *, grid: list[int] | None = None, also: bool = False) -> Timeline:
    """One product of bf16 a step; with `also`, an aligned one at 60 % of the peak too."""

    def body(drawn: Timeline) -> None:
        told: dict[str, Any] = {"dims": [[m, k], [k, n]], "types": [BF16, BF16], "grid": grid or [4096, 1, 1]}
        drawn.op("aten::mm", kernel=us, kernel_name=TENSOR, **told)
        if also:
            flops = 2 * 4096**3
            told = {"dims": [[4096, 4096]] * 2, "types": [BF16, BF16], "grid": [1024, 1, 1]}
            drawn.op("aten::mm", kernel=round(flops / BF16_PEAK / 0.6 * 1e6), kernel_name=TENSOR, **told)

    return steps(body)


def between(*ops: tuple[str, int, str], **args: Any) -> Timeline:
    """Steps of 2 ms of computation and these operators (name, microseconds, kernel)."""

    def body(drawn: Timeline) -> None:
        compute(drawn, 2_000)
        for name, us, kernel in ops:
            drawn.op(name, kernel=us, kernel_name=kernel, **args)

    return steps(body)


def communicating(
    *sizes_us: tuple[int, int], kind: str = "allreduce", ranks: int = 8, within: str = "DistributedDataParallel.forward"
) -> Timeline:
    """2 ms of computation in a framework's span, then collectives of (elements, microseconds) in turn, then their use."""

    def body(drawn: Timeline) -> None:
        with drawn.span(within):
            compute(drawn, 2_000)
        for size, us in sizes_us:
            collective(drawn, us, size=size, kind=kind, ranks=ranks)
        wait_for_collectives(drawn)

    return steps(body)


def launches(*, wait: bool = False, vary: bool = False) -> Timeline:
    """Steps of 100 launches, each 40 us of the host and 10 of the device, which so waits for the host."""
    drawn = Timeline()
    for step in range(6):
        with drawn.step():
            for i in range(100):
                drawn.op("aten::mm", kernel=10, host=40, grid=[100 + (step if vary else 0), 1, 1])
                if wait and i == 50:
                    drawn.item()
    return drawn


def copying(us: int, size: int, kernel: int, **args: Any) -> Timeline:
    """Steps of an upload and a product that take turns."""

    def body(drawn: Timeline) -> None:
        upload(drawn, us, size, **args)
        compute(drawn, kernel)

    return steps(body)
