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


def steps(body: Callable[[Timeline], None], count: int = 6, *, device: bool = True) -> Timeline:
    """So many equal steps."""
    drawn = Timeline() if device else Timeline(device=None)
    for _ in range(count):
        with drawn.step():
            body(drawn)
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
