"""Large 16-bit matrix products could run in fp8 on this device: an experiment, never a recommendation.

What it measures
    The time of bf16 and fp16 products whose three sizes are multiples of 16 and at least 1024, on a device whose fp8 peak is
    higher than its 16-bit one (Hopper, Ada, Blackwell, CDNA3).

Why it costs
    fp8 doubles the peak and halves the traffic of the operands. Each operand must be scaled and cast first, which only large
    products pay back.

How the gain is predicted
    Per product: FLOPs over the fp8 peak at 70 % (low), 85 % (mid) or all (high) of the efficiency that it has now, never below
    half of its traffic; on top five thirds (low: scale, then cast) or one (mid) of its traffic for casting, or none (high).

How to fix
    torchao.float8.convert_to_float8_training(model), or te.fp8_autocast of Transformer Engine; first and last layer stay in
    bf16.

When it is wrong
    fp8 has 2 or 3 bits of mantissa and can cost convergence, so this is always withheld with its number: try it when nothing
    cheaper is left, and compare loss curves. Without torch.compile the casts are kernels of their own.

References
    Micikevicius et al., FP8 formats for deep learning, 2022; https://github.com/pytorch/ao/tree/main/torchao/float8
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.gemms import Gemms, gemms_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, TERA, seconds

_MULTIPLE = 16  # fp8 products of cuBLASLt need sizes in multiples of 16
_LARGE = 1024  # torchao: below this casting eats the gain
_FASTER = 1.2  # an fp8 peak must exceed the 16-bit one by this factor
SEEN_SHARE = 0.05
# Share of today's efficiency that is kept, and traffic of the casts over that of the product (2 bytes read for the scale, 2
# read and 1 written by the cast, for two of three matrices): low, mid, high.
_ENDS = ((0.7, 5 / 3), (0.85, 1.0), (1.0, 0.0))


@rule("fp8-eligible", "KE025", "large products could run in fp8", needs=(Need.DEVICE, Need.SHAPES, Need.PEAK))
def fp8_eligible(run: Run) -> Outcome:
    """Price fp8, and withhold it."""
    peak, every = run.peaks.of("fp8"), gemms_of(run)
    if peak is None or every is None:
        return None
    wide = np.isin(np.array(every.dtype, dtype=object), ("bf16", "fp16")) & (peak > _FASTER * every.peak)
    sizes = np.stack((every.m, every.n, every.k))
    chosen = every.only(wide & (sizes % _MULTIPLE == 0).all(axis=0) & (sizes >= _LARGE).all(axis=0))
    steady = steady_of(run)
    inside = steady.entries(run)[chosen.entry]
    spent = steady.per_step(float(chosen.duration[inside].sum()))
    if spent < SEEN_SHARE * steady.step_ns:
        return None
    count = steady.per_step(int(inside.sum()))
    return Finding(
        summary=f"{counted(count, 'large 16-bit product')} a step, {steady.share(spent)} of it, could run in fp8",
        fix="torchao.float8.convert_to_float8_training(model)  # and torch.compile; keep the first and last layer in bf16",
        detail=f"peak {peak / TERA:.4g} TFLOP/s in fp8, {float(np.median(chosen.peak)) / TERA:.4g} now",
        change=Change(*(_end(run, chosen, peak, *end) for end in _ENDS)),
        evidence=(shown("large products", seconds(spent), "s"), shown("fp8 peak", peak, "FLOP/s")),
        effort="refactor",
        risk="convergence",
        confidence="hint",
        raised_peak=peak,
        withhold="fp8 can cost convergence: an experiment for when nothing cheaper is left, with both loss curves compared",
    )


def _end(run: Run, products: Gemms, peak: float, kept: float, casts: float) -> tuple[SetDevice]:
    work = products.flops / peak * NS_PER_S / (kept * np.maximum(products.efficiency, 1e-3))
    after = np.maximum(work, products.memory_ns / 2) + casts * products.memory_ns
    rows = run.activity.row[products.entry]
    return (SetDevice(rows, np.minimum(after, products.duration).astype(np.int64)),)
