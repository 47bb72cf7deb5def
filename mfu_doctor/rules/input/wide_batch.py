"""Images are copied to the GPU as fp32. This is four times the size of their uint8 pixels.

What it measures
    Copies to the GPU of four-dimensional fp32 tensors with one, three or four channels, and the part of them that does not
    overlap with compute.

Why it costs
    PCIe is much slower than the memory of the GPU. Converting uint8 to fp32 on the GPU takes only microseconds.

How the gain is predicted
    Low: the copies take half of their time (16-bit pixels).
    Mid and high: they take a quarter of their time (uint8).
    Copies that overlap with compute save nothing.

How to fix
    Keep the batch as uint8 in the DataLoader. Convert and normalise it on the GPU.

When it is wrong
    The rule is wrong if augmentation on the CPU needs floats, or if the data was never 8-bit.

References
    https://docs.nvidia.com/deeplearning/performance/
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.copies import copies_matching
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.names.vocabulary import TO_DEVICE
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import size_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_IMAGE_CHANNELS = (1, 3, 4)
_IMAGE_DIMS = 4
LEAST_BYTES = 1 << 20
# Pixels are bytes: a quarter of fp32. At the low end the batch is copied in a 16-bit dtype.
_AS_BYTES, _AS_HALF = 0.25, 0.5


@rule(
    "wide-batch",
    "IN007",
    "images are copied to the GPU as fp32",
    needs=(Need.DEVICE, Need.SHAPES),
    also=("uint8-images", "pcie-saturation"),
)
def wide_batch(run: Run) -> Outcome:
    """Judge the dtype of the images that are copied to the GPU."""
    steady = steady_of(run)
    every = copies_matching(run, TO_DEVICE, LEAST_BYTES)
    images = np.array([_is_float_image(run, row) for row in every.issuer(run).tolist()], np.bool_)
    every = every.only(images)
    copies = every.only(steady.entries(run)[every.entry])
    start, end = run.activity.start[copies.entry], run.activity.end[copies.entry]
    exposed = steady.per_step(float(run.breakdown.owners["memory_copy"].overlap_with(start, end).sum()))
    if exposed <= WORTH_SHARE * steady.step_ns:
        return None
    rows = run.activity.row[every.entry]

    def smaller(factor: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, np.full(len(rows), factor)),)

    return Finding(
        summary=f"GPU waits {steady.share(exposed)} of the step for copies of fp32 images "
        f"({size_of(steady.per_step(float(copies.size.sum())))} per step)",
        fix="x = batch.to(device, non_blocking=True).float().div_(255)  # copy uint8, convert on the GPU",
        decides=Ends(low="they need 16 bits", high="pixels can be copied as uint8"),
        change=Change(smaller(_AS_HALF), smaller(_AS_BYTES), smaller(_AS_BYTES)),
        evidence=(
            shown("bytes", steady.per_step(float(copies.size.sum())), "bytes per step"),
            shown("GPU waits for copies", seconds(exposed), "s"),
        ),
        place=run.places(copies.issuer(run)[:1])[0],
        risk="rounding",
        symptom_of=("pageable-copy", "blocking-copy"),
    )


def _is_float_image(run: Run, row: int) -> bool:
    args = run.trace.args_of(row)
    if args is None or args.dims is None:
        return False
    for index in range(len(args.dims)):
        dims = args.shape(index)
        if dims is not None and len(dims) == _IMAGE_DIMS and args.type_of(index) in ("float", "float32"):
            return dims[1] in _IMAGE_CHANNELS or dims[3] in _IMAGE_CHANNELS
    return False
