"""What a collective is: told by its kernel, else by the operator that issued it."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.evidence.collectives import Collectives, collectives_of
from mfu_doctor.analysis.run import Run
from tests.timeline import Timeline

GENERIC = "ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)"


def issued(*, kernels: int = 1, kernel: str = GENERIC, annotation: str = "nccl:all_reduce", **told: Any) -> Collectives:
    """Four steps of a matmul and one call of record_param_comms with these arguments, which launches so many kernels."""
    drawn = Timeline()
    for _ in range(4):
        with drawn.step():
            drawn.op("aten::mm", kernel=500)
            with (
                drawn.span("record_param_comms", "cpu_op", external_id=drawn._id(), **told),
                drawn.span(annotation, "user_annotation"),
            ):
                drawn.python(1)
                for _ in range(kernels):
                    ids: dict[str, Any] = {"correlation": drawn._id()}
                    drawn.call("cudaLaunchKernel", 4, **ids)
                    drawn.device(kernel, 300, stream=20, **ids)
            drawn.sync("cudaDeviceSynchronize")
    found = collectives_of(Run(drawn.trace()))
    assert found is not None
    return found


def test_the_arguments_of_the_call_tell_what_its_kernel_does_not() -> None:
    told: dict[str, Any] = {
        "Collective name": "allreduce",
        "dtype": "BFloat16",
        "In msg nelems": 1 << 20,
        "Group size": 8,
    }
    found = issued(**told)
    assert set(zip(found.kind, found.size.tolist(), found.dtype, strict=True)) == {("allreduce", 2 << 20, "BFloat16")}
    assert found.wait_known.all()
    assert set(found.ranks) == {8}


def test_the_output_of_an_operator_is_not_what_a_rank_puts_in() -> None:
    """c10d::_allgather_base_ has its output first: eight times as large."""
    drawn = Timeline()
    for _ in range(4):
        with drawn.step():
            drawn.op("aten::mm", kernel=500)
            told: dict[str, Any] = {"dims": [[8192], [1024]], "types": ["float", "float"]}
            drawn.op("c10d::_allgather_base_", kernel=300, kernel_name="ncclDevKernel_AllGather", stream=20, **told)
            drawn.sync("cudaDeviceSynchronize")
    found = collectives_of(Run(drawn.trace()))
    assert found is not None
    assert set(zip(found.kind, found.size.tolist(), strict=True)) == {("allgather", -1)}


def test_shapes_of_the_call_tell_the_size_in_traces_without_collective_arguments() -> None:
    found = issued(annotation="nccl:all_to_all", dims=[[6144], []], types=["float", "Scalar"])
    assert set(zip(found.kind, found.size.tolist(), strict=True)) == {("alltoall", 4 * 6144)}


def test_a_list_of_tensors_without_types_has_no_known_size() -> None:
    found = issued(dims=[[[9600]], []], types=["TensorList", "Scalar"])
    assert set(found.size.tolist()) == {-1}
    assert not found.wait_known.any()


def test_one_call_of_several_kernels_has_not_one_size() -> None:
    told: dict[str, Any] = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": 1 << 20}
    found = issued(kernels=2, **told)
    assert set(found.size.tolist()) == {-1}


@pytest.mark.parametrize(("count", "known"), [(2, False), (3, True)])
def test_waiting_is_known_from_three_equal_collectives_on(count: int, known: bool) -> None:
    drawn = Timeline()
    for _ in range(count):
        with drawn.step():
            drawn.op("aten::mm", kernel=500)
            drawn.op("c10d::allreduce_", kernel=300, kernel_name="ncclDevKernel_AllReduce", stream=20)
            drawn.events[-2]["args"] |= {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": 1024}
            drawn.sync("cudaDeviceSynchronize")
    found = collectives_of(Run(drawn.trace()))
    assert found is not None
    assert bool(found.wait_known.all()) is known
