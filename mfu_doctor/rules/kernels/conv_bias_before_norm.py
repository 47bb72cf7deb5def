"""Convolutions add a bias, and the batch norm after them subtracts it again.

What it measures
    Convolutions with a bias directly before a batch norm, and the kernels that add the bias and that sum its gradient.

Why it costs
    Adding the bias reads and writes all activations. Its gradient needs another reduction. Both have no effect on the result.

How the gain is predicted
    Low: the kernels that add the bias are removed.
    Mid and high: the kernels that sum its gradient are removed as well.

How to fix
    Pass bias=False to convolutions before a batch norm.

When it is wrong
    The rule is wrong if the batch norm uses fixed running statistics: then the bias has an effect. Existing checkpoints must be
    converted (subtract the bias from the running mean).

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
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_LAYER = re.compile(r"^aten::(conv[123]d|batch_norm)$")
_BACKWARD = re.compile(r"^aten::convolution_backward$")
_BIAS = 2  # position of the bias among the arguments of aten::conv2d


@rule(
    "conv-bias-before-norm",
    "KE011",
    "convolution bias before a batch norm has no effect",
    needs=(Need.DEVICE, Need.SHAPES),
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
        summary=f"Bias of {counted(count, 'convolution')} before a batch norm takes {steady.share(spent)} of the step",
        fix="nn.Conv2d(..., bias=False)  # the norm subtracts the mean, which contains the bias",
        confidence="measured",
        decides=Ends(low="only the addition goes", high="summing its gradient goes too"),
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
