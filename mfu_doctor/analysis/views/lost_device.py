"""A run on a GPU whose trace contains nothing of the GPU: the file was cut off before it, or the profiler did not record it.

Without kernels the operators look like the work itself. But on a GPU an operator only takes as long as its launch. So nothing
about such a run may be computed from the duration of its operators, and `lost_device` says when this is so.

Kineto writes the properties of each visible GPU into the header of every trace, also of a run that only used the CPU. So a header
alone does not decide: it needs a sign that operators ran on the GPU, or a missing sign that they ran on the CPU.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.views.launches import Launches
from mfu_doctor.analysis.views.nesting import OpTree
from mfu_doctor.analysis.views.step_windows import Steps
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.quantities import counted, share
from mfu_doctor.trace import CALL_CATEGORIES, DEVICE_CATEGORIES, Category, Trace

# Calls that put work on a device. Others (cudaDeviceSynchronize, cudaGetDeviceCount) also occur in a run on the CPU.
_ISSUES = re.compile(
    r"^(cuda|hip|cu)[A-Z]\w*(Memcpy|Memset)|LaunchKernel|LaunchCooperativeKernel|KernelLaunch|GraphLaunch"
)
_KERNEL = re.compile(r"LaunchKernel|LaunchCooperativeKernel|KernelLaunch|GraphLaunch")
# Operators that exist for GPUs only. Not cudnn_is_acceptable: an LSTM on the CPU asks it too.
_GPU_OP = re.compile(
    r"^aten::(cudnn_(convolution|batch_norm|grid_sampler|affine_grid)\w*|_cudnn_(rnn|ctc_loss|init_dropout)\w*|miopen_\w+"
    r"|_(flash|efficient|cudnn)_attention_(forward|backward)|_thnn_fused_(lstm|gru)_cell\w*|_conv_depthwise2d\w*"
    r"|_scaled_dot_product_(flash_attention|efficient_attention|cudnn_attention)(_backward)?)$"
    r"|^(nccl|rccl):|^(flash_attn\w*|xformers_flash\w*)::|^triton_(poi|red|per|tem|mm)_"
)
# Operators that exist for the CPU only.
_CPU_OP = re.compile(r"^(aten|mkldnn|onednn)::(mkldnn_\w+|_linear_pointwise|_convolution_pointwise|\w+_for_cpu\w*)$")
# A matmul on the CPU resolves conjugate views in operators of their own (since torch 1.10); cuBLAS does it in its call.
_MATMUL = re.compile(r"^aten::(mm|addmm)$")
_RESOLVE = re.compile(r"^aten::resolve_conj$")
TOLERATED = 0.02  # work of the step that may be missing: the last launches of a recording can lose their kernels
_GPU_BACKENDS = ("nccl", "rccl")

_RECORD_ALL = "torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], ...)"
_SMALLER = "torch.profiler.schedule(wait=5, warmup=2, active=3)  # a smaller file; copy it when the export is complete"
_SUPPORTED = "print(torch.profiler.supported_activities())  # must contain the kind of this GPU (CUDA, XPU)"
_CUPTI = (
    "the profiler needs CUPTI (ROCm: roctracer): install the one of the CUDA version in use, close other tools that use it "
    "(Nsight, DCGM), and on WSL update the driver of Windows"
)


class LostDevice(Struct, frozen=True):
    """Why the trace of a GPU run has nothing of the GPU.

    Attributes:
        cut: whether the file was cut off before its kernels; else they were not recorded.
        reason: a sentence: what is missing and what shows that it was there.
        fix: a line to paste.
        remedy: one more sentence on how to get a trace with kernels.
    """

    cut: bool
    reason: str
    fix: str
    remedy: str


def lost_device(trace: Trace, ops: OpTree) -> LostDevice | None:
    """What is missing in the trace of a run on a GPU without any GPU event; None for each other trace.

    Args:
        trace: the trace.
        ops: nesting of its operators.
    """
    if len(trace.rows(Category.KERNEL)):
        return None
    cut = is_cut(trace)
    if len(trace.rows(*DEVICE_CATEGORIES)) and not (
        cut or len(rows_matching(trace, _KERNEL, trace.rows(*CALL_CATEGORIES)))
    ):
        return None  # only copies, and nothing else was launched
    sign = _sign(trace) or _sign_of_operators(trace, ops, cut=cut)
    if sign is None:
        return None
    if cut:
        return _cut_off(f"before its GPU kernels, so nothing about the GPU is known ({sign})")
    reason = f"the trace has no GPU kernels, although the run used a GPU ({sign})"
    others = _device_types(trace) - {"cpu", "meta", "cuda"}
    if others:
        return LostDevice(False, reason, _SUPPORTED, f"the profiler of this torch records no kernels of {min(others)}")
    if len(_issuing(trace)) or trace.facts is not None:  # the profiler was asked for the GPU's side
        return LostDevice(False, reason, _SUPPORTED, _CUPTI)
    return LostDevice(False, reason, _RECORD_ALL, f"if CUDA is already among the activities: {_CUPTI}")


def is_cut(trace: Trace) -> bool:
    """Whether the file ends before its events do."""
    return any(problem.kind == "truncated" for problem in trace.problems)


def may_hide_a_gpu(trace: Trace, ops: OpTree) -> bool:
    """Whether the file was cut off before anything shows where its operators ran: what would show a GPU comes last in it."""
    return is_cut(trace) and not len(trace.rows(*DEVICE_CATEGORIES)) and not _on_cpu(trace, ops)


def cut_inside(trace: Trace, launches: Launches, steps: Steps) -> LostDevice | None:
    """What is missing if the file was cut off inside the kernels of its only step; None if that step is complete.

    Operators come first in the file, then what they launched, in the order of time. So operators after the last launch that is in
    the file show how many launches are not. Several steps are complete: each ends where the next one begins on the GPU.

    Args:
        trace: the trace.
        launches: which operator issued each device operation.
        steps: its steps.
    """
    owners = distinct(launches.op[launches.op >= 0])
    if not is_cut(trace) or steps.count > 1 or not len(owners):
        return None
    rows, names = trace.rows(Category.CPU_OP), trace.events.name
    last = int(trace.events.start[owners].max())
    before, after = rows[trace.events.start[rows] <= last], rows[trace.events.start[rows] > last]
    if steps.source != WHOLE:
        after = after[trace.events.start[after] < int(steps.host_end[0])]
    size = len(trace.names)
    usual = np.bincount(names[owners], minlength=size) / np.maximum(np.bincount(names[before], minlength=size), 1)
    missing = float(usual[names[after]].sum())
    if missing <= TOLERATED * len(owners):
        return None
    return _cut_off(f"inside the only step: about {share(missing, missing + len(owners))} of its GPU work is missing")


def _cut_off(where: str) -> LostDevice:
    return LostDevice(
        True, f"the file was cut off {where}", _SMALLER, "copy the file again if the original is complete"
    )


def _issuing(trace: Trace) -> npt.NDArray[np.int64]:
    """Calls that put work on a device."""
    return rows_matching(trace, _ISSUES, trace.rows(*CALL_CATEGORIES))


def _sign(trace: Trace) -> str | None:
    """What shows that the run used a GPU, whatever the header says; None if nothing does."""
    calls = _issuing(trace)
    if len(calls):
        return f"{counted(len(calls), 'call')} such as {trace.name_of(int(calls[0]))}"
    if len(trace.rows(Category.GPU_ANNOTATION, Category.SYNC)):
        return "it has marks on GPU streams"
    named = rows_matching(trace, _GPU_OP, trace.rows(Category.CPU_OP, Category.ANNOTATION))
    if len(named):
        return f"{trace.name_of(int(named[0]))} runs on GPUs only"
    if trace.memory is not None and bool((trace.memory.device >= 0).any()):
        return "GPU memory was allocated"
    if trace.distributed.backend in _GPU_BACKENDS:
        return f"its ranks communicate with {trace.distributed.backend.upper()}"
    memory = trace.facts.memory if trace.facts is not None else None
    if memory is not None and memory.allocated_peak_bytes:
        return "GPU memory was allocated"
    kinds = _device_types(trace) - {"cpu", "meta"}
    return f"the parameters were on {min(kinds)}" if kinds else None


def _sign_of_operators(trace: Trace, ops: OpTree, *, cut: bool) -> str | None:
    """Whether operators ran on the GPU that the header names, or on one that nothing names; None if they ran on the CPU.

    If the file was cut off, a missing sign of the CPU is enough, because what would show the GPU comes last in the file.
    """
    if _on_cpu(trace, ops):
        return None
    apart = "backward ran on a thread of its own, as on a GPU" if _backward_on_own_thread(trace, ops) else None
    matmuls = len(rows_matching(trace, _MATMUL, trace.rows(Category.CPU_OP)))
    unlike = "its matmuls were not computed as on a CPU" if matmuls else None
    if not trace.devices:  # a profiler without CUPTI writes no GPU into the header either
        return f"{apart}, and {unlike}" if apart and unlike else None
    named = f"its header names {trace.devices[0].name.strip() or 'a GPU'}"
    shown = apart or unlike
    return f"{named}, and {shown}" if shown else named if cut else None


def _on_cpu(trace: Trace, ops: OpTree) -> bool:
    """Whether operators show that they ran on the CPU, or profile() saw all parameters there."""
    if _device_types(trace) == {"cpu"}:
        return True
    rows = trace.rows(Category.CPU_OP)
    if len(rows_matching(trace, _CPU_OP, rows)):
        return True
    matmuls = rows_matching(trace, _MATMUL, rows)
    inside = ops.parent[rows_matching(trace, _RESOLVE, rows)]
    return bool(len(matmuls)) and 2 * int(np.isin(matmuls, inside).sum()) > len(matmuls)


def _backward_on_own_thread(trace: Trace, ops: OpTree) -> bool:
    """Whether autograd ran apart from forward: it has one thread per GPU, and on the CPU uses the thread that called it."""
    rows = trace.rows(Category.CPU_OP, Category.ANNOTATION)
    nodes = rows_matching(trace, NODE_CALL, rows)
    outermost = rows[ops.parent[rows] < 0]
    outermost = outermost[np.isin(trace.events.track[outermost], trace.events.track[nodes])]
    return bool(len(nodes)) and len(rows_matching(trace, NODE_CALL, outermost)) == len(outermost)


def _device_types(trace: Trace) -> set[str]:
    """Where profile() saw the parameters; empty for other traces."""
    optimizers = trace.facts.optimizers if trace.facts is not None else ()
    return {kind for optimizer in optimizers for kind in optimizer.device_types}
