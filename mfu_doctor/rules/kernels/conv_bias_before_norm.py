"""Convolutions add a bias that the batch norm after them subtracts again.

What it measures
    Convolutions with a bias directly before a batch norm, and the kernels that add the bias and sum up its gradient.

Why it costs
    A pass over the activations to add it and another to sum its gradient, for nothing.

How the gain is predicted
    The kernels that add the bias vanish (low), and those that reduce its gradient as well (mid, high).

How to fix
    bias=False in convolutions before a batch norm.

When it is wrong
    Checkpoints with the bias must be converted (add it to the running mean).

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html#disable-bias-for-convolutions-directly-followed-by-a-batch-norm
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import calls_of, device_ns, scaled, work_in, work_of
from mfu_doctor.analysis.evidence.steady_steps import Rows, spans, steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_LAYER = re.compile(r"^aten::(conv[123]d|batch_norm)$")
_BACKWARD = re.compile(r"^aten::convolution_backward$")
_BIAS = 2  # position of the bias among the arguments of aten::conv2d


@rule(
    "conv-bias-before-norm", "KE011", "convolutions add a bias that a norm takes away", needs=(Need.DEVICE, Need.SHAPES)
)
def conv_bias_before_norm(run: Run) -> Outcome:
    """Judge convolutions directly before a batch norm."""
    steady = steady_of(run)
    convolutions = _biased(run)
    if not len(steady.issued(run, convolutions)):
        return None
    adding = work_in(run, spans(run, convolutions)) & run.kernels.is_kind("elementwise")
    summing = work_of(run, _BACKWARD) & run.kernels.is_kind("reduction")
    both = adding | summing
    spent = device_ns(run, steady, both)
    if spent <= 0:
        return None
    count = steady.per_step(len(steady.issued(run, convolutions)))
    return Finding(
        summary=f"Biases before a batch norm take {steady.share(spent)} of the step, in {counted(count, 'convolution')}",
        fix="nn.Conv2d(..., bias=False)  # the norm subtracts the mean, and the bias with it",
        change=Change(scaled(run, adding, 0.0), scaled(run, both, 0.0), scaled(run, both, 0.0)),
        evidence=(shown("convolutions", count, "per step"), shown("bias kernels", seconds(spent), "s")),
        place=run.places(convolutions[:1])[0],
    )


def _biased(run: Run) -> Rows:
    """Convolutions with a bias whose next layer is a batch norm."""
    layers = calls_of(run, _LAYER)
    names = [run.trace.name_of(row) for row in layers.tolist()]
    found = []
    for i, row in enumerate(layers.tolist()[:-1]):
        args = run.trace.args_of(row)
        followed = "conv" in names[i] and names[i + 1] == "aten::batch_norm"
        if followed and args is not None and args.dims is not None and args.shape(_BIAS):
            found.append(row)
    return np.array(found, np.int64)
