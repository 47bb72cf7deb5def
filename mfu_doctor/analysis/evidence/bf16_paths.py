"""Which operators of a CPU are known to gain from bf16: a peak that a matmul reaches says nothing about an LSTM.

Measured forward and backward under autocast against fp32, torch 2.13, one thread of an AMD EPYC with AVX512-BF16. Share of the
time that remained: linear layers 0.42 to 0.71, batched matmuls 0.12 to 0.35, convolutions of one to three dimensions 0.34 to
0.51, depthwise 0.42, transposed 0.69. An LSTM (mkldnn_rnn_layer) took 0.60 to 1.41 of it, depending on its size: its weights
are converted and packed again in each call. scaled_dot_product_attention took 0.84 to 1.92.

What a matmul gains depends on its size, because its operands are cast, and its weights are packed again in each call. Two linear
layers of width n on a batch of b rows, forward and backward, same machine, torch 2.13, alternating with fp32: share of the time
that remained.

    n       b = 16   b = 64   b = 256   b = 1024
    32      2.2      2.1      1.8       1.3
    128     1.9      1.4      0.9-1.0   0.3-0.65
    512     1.1-1.3  1.0-1.1  0.4-0.6   0.5
    2048    1.1      0.6      0.5       0.5

So each of its matmuls (three of a layer) needed about 30 us longer. It was 20 to 75 us in GRU, RNN and LSTM layers that run as
single operators and in their cells, 16 steps, because pointwise operators between the matmuls become slower too: 1.1 to 2.0 of
the time remained at a width of 64 and a batch of 16 or 64, 0.6 to 1.2 at 256 and 0.5 to 0.6 at 1024. Convolutions are packed in
fp32 too: 0.9 to 1.0 remained of those of 2 to 20 MFLOP, 0.4 to 0.7 of larger ones.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.run import Run

_GAINS = re.compile(
    r"::(mm|addmm|bmm|baddbmm|addbmm|matmul|linear|linear_backward|_addmm_activation|_linear_pointwise\w*)$"
    r"|conv(?!ert)\w*$"
)
_CONV = re.compile(r"conv(?!ert)\w*$")


class UnknownPath(Struct, frozen=True):
    """Operators that autocast runs in bf16 although they are not known to gain from it, and what it can cost."""

    pattern: re.Pattern[str]
    at_worst: float  # of the fp32 time, the longest that was measured


class Casts(Struct, frozen=True):
    """What autocast adds to each of some matmuls: nanoseconds to dispatch, and traffic as a multiple of the matmul's own."""

    dispatch_ns: npt.NDArray[np.float64]
    traffic: npt.NDArray[np.float64]


# The longest, the usual and the shortest that was measured (see above). The weights of a small batch are cast and packed again in
# forward and backward, which moves up to twice what the matmul moves; nothing of it is seen where operands are in a cache.
_MATMUL_CASTS = ((70_000, 2.0), (30_000, 1.0), (10_000, 0.0))
_CONV_CASTS = ((30_000, 1.0), (10_000, 0.5), (0, 0.0))

UNKNOWN_PATHS = (
    UnknownPath(re.compile(r"::mkldnn_rnn_layer\w*$"), 1.41),
    UnknownPath(re.compile(r"scaled_dot_product|_flash_attention|_attention_for_cpu"), 1.92),
)


def gains_from_bf16(run: Run) -> Mask:
    """Entries whose operator is known to be faster in 16 bits here: all on a GPU, on a CPU those that were measured."""
    if not run.is_cpu:
        return np.ones(run.activity.count, np.bool_)
    found: Mask = np.isin(run.trace.events.name[run.activity.row], ids_matching(run.trace, _GAINS))
    return found


def casts_on_cpu(run: Run, rows: Rows) -> tuple[Casts, Casts, Casts]:
    """What autocast adds to the matmuls of these event rows of a CPU-only run, at the low, mid and high end of a prediction."""
    conv = np.isin(run.trace.events.name[rows], ids_matching(run.trace, _CONV))
    low, mid, high = (
        Casts(np.where(conv, of_conv[0], others[0]).astype(np.float64), np.where(conv, of_conv[1], others[1]))
        for of_conv, others in zip(_CONV_CASTS, _MATMUL_CASTS, strict=True)
    )
    return low, mid, high
