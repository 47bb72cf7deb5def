"""Backward of depthwise convolutions takes many times their forward on a CPU, because no kernel fits their layout.

What it measures
    Depthwise convolutions on a CPU with the channels first in memory, whose backward takes more than five times as long as the
    forward of the same layer. It computes twice as much: the gradient of the input and that of the weights.

Why it costs
    oneDNN has fast kernels for some sizes in some layouts, and general ones for the others. Backward of depthwise convolutions
    with windows larger than 3 x 3 has a fast one only with the channels last.

How the gain is predicted
    With the channels last, backward of 16 such layers (windows of 5 x 5 to 9 x 9, torch 2.13, AVX-512) took 22 to 56 % of its
    time. Low: 55 % of it remains. Mid: 40 %. High: 25 %. What forward and other layers gain is left out.

How to fix
    Convert the model and its images once to torch.channels_last, and do not make them contiguous in between.

When it is wrong
    The rule promises too much if layers in between have no kernel for the channels last, or on a CPU with other kernels.

References
    https://pytorch.org/tutorials/intermediate/memory_format_tutorial.html
    https://uxlfoundation.github.io/oneDNN/dev_guide_convolution.html
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import device_ns, first_place, scaled
from mfu_doctor.analysis.evidence.slow_backwards import SlowBackwards, slow_backwards_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import number
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_LEFT = (0.55, 0.4, 0.25)  # see above: measured


@rule(
    "slow-convolution-backward",
    "KE044",
    "backward of depthwise convolutions takes many times their forward",
    needs=(Need.SHAPES,),
    also=("depthwise-backward", "channels-last-on-cpu"),
)
def slow_convolution_backward(run: Run) -> Outcome:
    """Compare backward of each convolution with its forward."""
    found, steady = slow_backwards_of(run), steady_of(run)
    if found is None:
        return None
    spent = device_ns(run, steady, found.entries)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    return Finding(
        summary=f"Backward of depthwise convolutions takes {steady.share(spent)} of the step, "
        f"{number(found.times)} times their forward (twice is usual)",
        fix="model = model.to(memory_format=torch.channels_last); x = x.to(memory_format=torch.channels_last)",
        detail=f"this layout has no fast kernel for them: {_sizes(run, found)}",
        decides=Ends(low="the layers are small", high="the windows are 5 x 5, or the layers are large"),
        change=Change(*(scaled(run, found.entries, left) for left in _LEFT)),
        evidence=(shown("backward", seconds(spent), "s"), shown("backward over forward", found.times)),
        place=first_place(run, found.rows),
        effort="line",
        risk="rounding",
    )


def _sizes(run: Run, found: SlowBackwards) -> str:
    """Input and weight of the longest of them."""
    args = run.trace.args_of(found.longest)
    shapes = (args.shape(1), args.shape(2)) if args is not None else ()
    image, weight = ("x".join(map(str, shape or ())) for shape in shapes)
    return f"input {image}, weight {weight}"
