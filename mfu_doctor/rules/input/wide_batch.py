"""Images travel to the device as fp32, four times the bytes of the pixels they hold.

What it measures
    Copies to the device of four-dimensional fp32 tensors with one, three or four channels, and the part of them that is
    exposed.

Why it costs
    The link to the device is the slowest memory in the machine; converting there costs microseconds.

How the gain is predicted
    The copies take a quarter of their time (uint8), at the low end half (16 bits). Hidden copies save nothing.

How to fix
    Leave the batch as uint8 in the loader, and convert and normalise on the device.

When it is wrong
    Augmentation on the host that needs floats, and data that never was 8-bit.

References
    https://docs.nvidia.com/deeplearning/performance/
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.copies import copies_matching
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import size_of
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_UPLOAD = re.compile(r"HtoD|Host -> Device")
_IMAGE_CHANNELS = (1, 3, 4)
_IMAGE_DIMS = 4
LEAST_BYTES = 1 << 20
# An image comes as bytes: a quarter of fp32. At the low end it is sent as 16-bit numbers.
_AS_BYTES, _AS_HALF = 0.25, 0.5


@rule(
    "wide-batch",
    "IN007",
    "images are sent as 32-bit numbers",
    needs=(Need.DEVICE, Need.SHAPES),
    also=("uint8-images", "pcie-saturation"),
)
def wide_batch(run: Run) -> Outcome:
    """Judge what the copies to the device carry."""
    steady = steady_of(run)
    every = copies_matching(run, _UPLOAD, LEAST_BYTES)
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
        summary=f"Images are sent as fp32, {size_of(steady.per_step(float(copies.size.sum())))} a step, exposed "
        f"{steady.share(exposed)} of it",
        fix="x = batch.to(device, non_blocking=True).float().div_(255)  # send uint8, convert on the GPU",
        change=Change(smaller(_AS_HALF), smaller(_AS_BYTES), smaller(_AS_BYTES)),
        evidence=(
            shown("bytes", steady.per_step(float(copies.size.sum())), "bytes per step"),
            shown("exposed", seconds(exposed), "s"),
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
