"""The names that PyTorch, CUDA, HIP and the collectives write into a trace, and what each means.

They are all in this file, so that "which calls block" and "what is a data fetch" have one answer that a trace can confirm.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mfu_doctor.trace import Trace

FETCH_MARK = "mfu_doctor.fetch"  # written by Recorder.batches
STEP_MARK = re.compile(r"^ProfilerStep#([0-9]{1,18})$")  # longer numbers do not fit 64 bits, and count nothing
OPTIMIZER_MARK = re.compile(r"^Optimizer\.step#")
OPTIMIZER_SPAN = re.compile(r"^Optimizer\.(step|zero_grad)#")
# Spans that label a stretch of the program; old traces give them the category of operators.
LABEL = re.compile(
    r"^(ProfilerStep#|Optimizer\.(step|zero_grad)#|enumerate\(DataLoader\)|mfu_doctor\.|\[pl\]|## Call )"
)
FETCH = re.compile(
    r"^(enumerate\(DataLoader\)#.*__next__$|mfu_doctor\.fetch$|\[pl\]\[profile\].*(dataloader_next|fetch_next|_next$))"
)
# torch/utils/data/dataloader.py frames, for traces with stacks but without annotations
FETCH_FRAME = re.compile(r"torch/utils/data/dataloader\.py\(\d+\): __next__$")
COMPILE = re.compile(
    r"\(dynamo_timed\)|_compile\.compile_inner|compile_fx|inductor_compile|backend_compile|async_compile"
)

# How the name of a call may end: `_v2` is the version of a driver call, `_ptsz` and `_ptds` mark programs built with a default
# stream for each thread (CUPTI names every variant of a call).
_END = r"(_v\d+)?(_pt(sz|ds))?$"
BLOCKING = re.compile(
    r"^((cuda|hip)(Stream|Device|Event)Synchronize|cu(Ctx|Stream|Event)Synchronize|(cuda|hip)Memcpy(WithStream)?"
    rf"|cuMemcpy[HD]to[HD]|cudaMemset){_END}"
)
SYNC_ALL = re.compile(rf"DeviceSynchronize{_END}|^cuCtxSynchronize{_END}")
QUERY = re.compile(rf"^(cuda|hip)(Event|Stream)Query{_END}|^cu(Event|Stream)Query{_END}")
EVENT_SYNC = re.compile(rf"EventSynchronize{_END}")
ASYNC_COPY = re.compile(rf"^(cuda|hip)Memcpy.*Async|^cuMemcpy.*Async|^(hipMemcpyWithStream|cudaMemcpy|hipMemcpy){_END}")
TO_HOST = re.compile(r"DtoH|Device -> (Pageable|Pinned|Host)")
TO_DEVICE = re.compile(r"HtoD|(Pageable|Pinned|Host) -> Device")
HOST_TO_DEVICE_PAGEABLE = re.compile(r"HtoD.*Pageable")
DEVICE_TO_HOST_PAGEABLE = re.compile(r"DtoH.*Pageable")
ALLOCATOR = re.compile(
    rf"^(cuda|hip)(Malloc|Free|HostAlloc|MallocHost|FreeHost|HostFree|HostMalloc|ExtMallocWithFlags){_END}"
    rf"|^cuMem(Create|Map|Unmap|Release|AddressReserve|SetAccess){_END}"
)
LAUNCH = re.compile(r"Launch(Kernel|CooperativeKernel|HostFunc)|LaunchKernel|GraphLaunch|Memcpy|Memset")
GRAPH_LAUNCH = re.compile(rf"GraphLaunch{_END}")
EVENT_RECORD = re.compile(r"EventRecord")
WAIT_EVENT = re.compile(r"StreamWaitEvent")

# Collectives by kernel name: NCCL, RCCL, MSCCL++, NVSHMEM, symmetric memory, vLLM's custom all-reduce. Not "^hip".
COMMUNICATION_KERNEL = re.compile(r"nccl|rccl|msccl|nvshmem|multimem_|cross_device_reduce|quickreduce", re.IGNORECASE)
COMMUNICATION_OP = re.compile(r"^(gloo:|mpi:|ucc:|nccl:|c10d::|record_param_comms$|_c10d_functional::)")

# Operators that only look at a tensor in another way; a reshape may copy it.
VIEW = re.compile(
    r"^aten::(t|mT|numpy_T|adjoint|transpose|permute|movedim|view|view_as|reshape|flatten|unflatten|expand|expand_as|unsqueeze|squeeze"
    r"|as_strided|detach|alias)$"
)

# Operators that read a device value on the host, which stops the host until the device has it.
SYNCING_OP = re.compile(r"^aten::(item|_local_scalar_dense|nonzero|is_nonzero|equal|unique\w*|masked_select|bincount)$")


def plain_call(name: str) -> str:
    """The name of a call of CUDA or HIP without its variant; another name as it is."""
    return re.sub(_END, "", name) if re.match(r"(cu|hip)[A-Za-z]\w*$", name) else name


def ids_matching(trace: Trace, pattern: re.Pattern[str]) -> npt.NDArray[np.int64]:
    """Ids of the names of this trace in which the pattern is found, shape (k,)."""
    return _ids_matching(trace.names, pattern)


@lru_cache(maxsize=256)
def _ids_matching(names: tuple[str, ...], pattern: re.Pattern[str]) -> npt.NDArray[np.int64]:
    found = np.array([i for i, name in enumerate(names) if pattern.search(name)], np.int64)
    found.flags.writeable = False  # every rule that asks gets this one
    return found


def rows_matching(trace: Trace, pattern: re.Pattern[str], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of `rows` whose name matches the pattern, shape (k,)."""
    wanted = np.zeros(len(trace.names) + 1, np.bool_)
    wanted[ids_matching(trace, pattern)] = True
    return rows[wanted[trace.events.name[rows]]]
