"""Tensors are converted between NCHW and NHWC before and after convolutions.

What it measures
    The time of cuDNN and MIOpen kernels that only change the order of dimensions.

Why it costs
    Tensor cores work best with the channels_last layout. If the model uses channels first, every convolution converts its
    input and its result.

How the gain is predicted
    Low: half of the conversion time is removed.
    Mid: 90 % is removed (the first and the last conversion remain).
    High: all of it is removed.

How to fix
    Convert the model and the input once to torch.channels_last. With MIOpen (AMD) set PYTORCH_MIOPEN_SUGGEST_NHWC=1 before torch
    is imported, too: otherwise PyTorch hands it NCHW whatever the memory format is, and channels_last only adds copies.

When it is wrong
    The rule promises too much if some layers have no channels_last kernel: they convert back, which can cost more than the
    change saves.

References
    https://pytorch.org/tutorials/intermediate/memory_format_tutorial.html
    https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/ConvUtils.h
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, longest_kernels, scaled
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.units import seconds

# cuDNN, MIOpen and oneDNN kernels that only change the order of dimensions around a convolution.
_CONVERSION = re.compile(
    r"nchwToNhwc|nhwcToNchw|batched_transpose|tensorTransformGeneric|^aten::mkldnn_reorder|to_mkldnn"
)
_MIOPEN = re.compile(r"batched_transpose")
_FIX = "model = model.to(memory_format=torch.channels_last); x = x.to(memory_format=torch.channels_last)"
_FIX_MIOPEN = f'os.environ["PYTORCH_MIOPEN_SUGGEST_NHWC"] = "1"  # before torch is imported\n{_FIX}'


@rule(
    "layout-conversion",
    "KE008",
    "tensors are converted between layouts around convolutions",
    also=("channels-last", "nhwc"),
)
def layout_conversion(run: Run) -> Outcome:
    """Judge kernels that only convert a layout."""
    steady = steady_of(run)
    mask = np.isin(run.trace.events.name[run.activity.row], ids_matching(run.trace, _CONVERSION))
    spent = device_ns(run, steady, mask)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    inside = mask & steady.entries(run)
    ops, by_miopen = run.launches.op[inside], ids_matching(run.trace, _MIOPEN)
    return Finding(
        summary=f"Layout conversion takes {steady.share(spent)} of the step "
        f"({counted(steady.per_step(int(inside.sum())), 'kernel')} per step)",
        fix=_FIX_MIOPEN if np.isin(run.trace.events.name[run.activity.row[inside]], by_miopen).any() else _FIX,
        risk="rounding",  # convolutions then run other kernels
        decides=Ends(low="half of the conversions stay", high="the whole model keeps one layout"),
        change=Change(scaled(run, mask, 0.5), scaled(run, mask, 0.1), scaled(run, mask, 0.0)),
        evidence=tuple(
            shown("kernel", seconds(steady.per_step(ns)), "s", name) for name, ns in longest_kernels(run, inside)
        ),
        place=first_place(run, ops[ops >= 0]),
        effort="line",
    )
