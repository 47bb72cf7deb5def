"""Convolutions run without the fast library: oneDNN on a CPU, cuDNN on a GPU.

What it measures
    The time of convolutions that PyTorch computes with kernels of its own (slow_conv, NNPACK) although the fast library for this
    device is there, and whether torch.backends.mkldnn.enabled or torch.backends.cudnn.enabled is off.

Why it costs
    PyTorch's own kernels copy the input into columns and multiply, and compute a depthwise convolution group by group. The
    switch is often a remnant of a search for differences between two runs or of an old bug.

How the gain is predicted
    On a CPU a convolution takes the larger of FLOPs / peak and bytes / bandwidth, divided by the efficiency.
    Low: 25 % efficiency. Mid: 50 %. High: 100 %. With oneDNN, layers of two networks reached 18 to 220 % (torch 2.13, AVX-512).
    On a GPU 90, 60 and 40 % of the time remain (low, mid, high). This is a rough estimate.
    Replay gives the new step time.

How to fix
    torch.backends.mkldnn.enabled = True (CPU) or torch.backends.cudnn.enabled = True (GPU). For results that are the same in
    every run, torch.backends.cudnn.deterministic = True is enough; oneDNN needs nothing.

When it is wrong
    The rule is wrong if the fast library fails for this network. Small convolutions run without oneDNN also where it is on: the
    rule is silent then.

References
    https://pytorch.org/docs/stable/backends.html#torch-backends-mkldnn
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import calls_of, device_ns, owner_of, scaled
from mfu_doctor.analysis.evidence.fast_convolutions import CONVOLUTIONS, in_onednn
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, steady_of, under
from mfu_doctor.analysis.names.vocabulary import ids_matching, rows_matching
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.devices.dtypes import short_dtype
from mfu_doctor.quantities import share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.trace import Category
from mfu_doctor.units import NS_PER_S, seconds

_CONVOLUTION = re.compile(r"^aten::convolution$")
_FALLBACK = re.compile(r"^aten::(_?slow_conv|thnn_conv|_nnpack_spatial_convolution)")
_FAST = re.compile(r"^aten::(mkldnn|cudnn|miopen)_convolution")
_FAST_DTYPES = ("fp32", "bf16")  # of oneDNN in training; fp16 and fp64 have rules of their own
_GPU_LEFT = (0.9, 0.6, 0.4)  # low, mid, high


@rule(
    "fallback-convolution",
    "KE036",
    "convolutions run without oneDNN or cuDNN",
    needs=(Need.SHAPES,),
    also=("mkldnn-off", "onednn-off", "cudnn-off"),
)
def fallback_convolution(run: Run) -> Outcome:
    """Judge which kernels compute the convolutions."""
    calls = calls_of(run, _CONVOLUTION)
    slow = calls[np.isin(calls, _around(run, _FALLBACK, calls))]
    enabled = _enabled(run)
    if not len(slow) or enabled or (enabled is None and len(_around(run, _FAST, calls))):
        return None
    entries = _entries(run, slow)
    steady = steady_of(run)
    spent = device_ns(run, steady, entries)
    change = _change(run, entries)
    if change is None or spent < WORTH_SHARE * steady.step_ns:
        return None
    library, switch = ("oneDNN", "mkldnn") if run.is_cpu else ("cuDNN", "cudnn")
    reached = _reached(run, entries)
    return Finding(
        summary=f"Convolutions without {library}{', which is switched off,' if enabled is False else ''} "
        f"take {steady.share(spent)} of the step",
        fix=f"torch.backends.{switch}.enabled = True{'' if enabled is False else '  # if it is off: that was not recorded'}",
        change=change,
        decides=Ends(low="they are small or depthwise", high="the layers are large, and reach the peak"),
        detail=reached if enabled is False else f"if torch.backends.{switch}.is_available(); {reached}",
        evidence=(shown("convolutions in fallback kernels", seconds(spent), "s"),),
        effort="setting",
        risk="rounding",
        confidence="modelled" if enabled is False and run.is_cpu else "hint",
    )


def _enabled(run: Run) -> bool | None:
    """Whether the run may use the fast library of its device; None if nothing says so."""
    precision = run.facts.precision if run.facts else None
    if precision is None:
        return None
    return precision.onednn if run.is_cpu else precision.cudnn


def _around(run: Run, pattern: re.Pattern[str], calls: Rows) -> Rows:
    """The convolutions in which an operator of such a name runs."""
    rows = rows_matching(run.trace, pattern, run.trace.rows(Category.CPU_OP))
    inside = distinct(under(run, rows, _CONVOLUTION))
    return inside[np.isin(inside, calls)]


def _entries(run: Run, slow: Rows) -> Mask:
    """Device work of these forward convolutions, and of backward convolutions with the same input and weight."""
    owner = owner_of(run, CONVOLUTIONS)
    owners = distinct(owner[owner >= 0])
    forward = np.isin(run.trace.events.name[owners], ids_matching(run.trace, _CONVOLUTION))
    layers = {_layer(run, row, 0) for row in slow.tolist()} - {None}
    mine = [
        row
        for row, ahead in zip(owners.tolist(), forward, strict=True)
        if _layer(run, row, 0 if ahead else 1) in layers
    ]
    return np.isin(owner, mine)


def _layer(run: Run, row: int, first: int) -> tuple[tuple[int, ...] | None, ...] | None:
    """Shapes of input and weight; None if they were not recorded or are in a dtype that the fast library does not have."""
    args = run.trace.args_of(row)
    if args is None or (run.is_cpu and short_dtype(args.type_of(first)) not in _FAST_DTYPES):
        return None
    return args.shape(first), args.shape(first + 1)


def _change(run: Run, entries: Mask) -> Change | None:
    if not run.is_cpu:
        return Change(*(scaled(run, entries, left) for left in _GPU_LEFT))
    found = in_onednn(run, entries)
    if found is None:
        return None
    rows, first = np.unique(run.activity.row[found.entries], return_index=True)
    return Change(*((ScaleDevice(rows, left[first]),) for left in found.left))


def _reached(run: Run, entries: Mask) -> str:
    """How far these convolutions are from the peak."""
    peak = run.peaks.of("fp32")
    length = float((run.activity.end - run.activity.start)[entries].sum())
    rate = float(run.flops.per_entry(EXECUTED)[entries].sum()) / max(length, 1.0) * NS_PER_S
    return "PyTorch's own kernels" + (f" reach {share(rate, peak)} of the fp32 peak" if peak else " are slower")
