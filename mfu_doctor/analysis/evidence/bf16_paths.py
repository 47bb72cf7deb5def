"""Which operators of a CPU are known to gain from bf16: a peak that a matmul reaches says nothing about an LSTM.

Measured forward and backward under autocast against fp32, torch 2.13, one thread of an AMD EPYC with AVX512-BF16. Share of the
time that remained: linear layers 0.42 to 0.71, batched matmuls 0.12 to 0.35, convolutions of one to three dimensions 0.34 to
0.51, depthwise 0.42, transposed 0.69. An LSTM (mkldnn_rnn_layer) took 0.60 to 1.41 of it, depending on its size: its weights
are converted and packed again in each call. scaled_dot_product_attention took 0.84 to 1.92.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mfu_doctor.analysis.evidence.steady_steps import Mask
from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.run import Run

_GAINS = re.compile(
    r"::(mm|addmm|bmm|baddbmm|addbmm|matmul|linear|linear_backward|_addmm_activation|_linear_pointwise\w*)$"
    r"|conv(?!ert)\w*$"
)


@dataclass(frozen=True, slots=True)
class UnknownPath:
    """Operators that autocast runs in bf16 although they are not known to gain from it, and what it can cost."""

    pattern: re.Pattern[str]
    at_worst: float  # of the fp32 time, the longest that was measured


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
