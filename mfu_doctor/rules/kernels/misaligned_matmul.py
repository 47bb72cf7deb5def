"""Matrix dimensions are not multiples of 16 bytes, so the matmul uses a slower kernel.

What it measures
    The time and efficiency of matmuls whose M, N or K is not a multiple of 8 (bf16, fp16), 4 (TF32) or 16 (fp8), compared with
    the aligned matmuls of this run.

Why it costs
    Tensor cores read 16 bytes at a time. Rows that do not start at a multiple of 16 bytes need narrower loads or another
    kernel.

How the gain is predicted
    The dimensions are padded to the next multiple. The padded matmul then runs at the efficiency of the aligned matmuls of this
    run.
    Low: half of the mid gain.
    Mid: their median efficiency (50 % if there are none).
    High: their best efficiency.

How to fix
    Pad the vocabulary, the hidden size or the sequence to a multiple of 8, or better of 64.

When it is wrong
    The rule promises too much if the matmul is memory-bound: then alignment changes little. Recent cuBLAS versions handle odd
    sizes better.

References
    https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication/
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attention_chains import attention_chains
from mfu_doctor.analysis.evidence.attribution import longest_kernels
from mfu_doctor.analysis.evidence.gemms import Gemms, gemms_of, reference_efficiency
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, steady_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Tensor cores load 16 bytes at a time: 8 elements of 16 bits, 4 of TF32 (NVIDIA, matrix multiplication background guide).
_MULTIPLE = {"bf16": 8, "fp16": 8, "tf32": 4, "fp8": 16}
_USUAL_EFFICIENCY = 0.5  # of aligned matmuls, if this run has none to compare with


@rule(
    "misaligned-matmul",
    "KE006",
    "matrix sizes are not aligned for tensor cores",
    needs=(Need.DEVICE, Need.SHAPES, Need.PEAK),
    also=("tensor-cores", "padding", "vocabulary-size"),
)
def misaligned_matmul(run: Run) -> Outcome:
    """Judge the sizes of matmuls on tensor cores."""
    steady = steady_of(run)
    gemms = gemms_of(run)
    if gemms is None:
        return None
    multiple = np.array([_MULTIPLE.get(d or "", 1) for d in gemms.dtype])
    plain = run.kernels.is_kind("matmul")[gemms.entry]  # convolutions have channels, not rows, to align
    odd = plain & (((gemms.m % multiple) | (gemms.n % multiple) | (gemms.k % multiple)) != 0)
    inside = steady.entries(run)[gemms.entry]
    if not (odd & inside).any():
        return None
    spent = steady.per_step(float(gemms.duration[odd & inside].sum()))
    worst = int(np.argmax(np.where(odd & inside, gemms.duration, -1)))
    now = (int(gemms.m[worst]), int(gemms.n[worst]), int(gemms.k[worst]))
    padded = tuple(-(-size // int(multiple[worst])) * int(multiple[worst]) for size in now)
    mask = np.zeros(run.activity.count, np.bool_)
    mask[gemms.entry[odd & inside]] = True
    kernels = longest_kernels(run, mask)
    return Finding(
        summary=f"Matmuls with dimensions that are not multiples of {int(multiple[worst])} take "
        f"{steady.share(spent)} of the step",
        fix=f"# pad {_spelled(now)} to {_spelled(padded)}",
        detail=f"the longest matmul is M x N x K = {_spelled(now)} in {gemms.dtype[worst]}",
        decides=Ends(
            low="padding gains half of what aligned ones show", high="padded matmuls run like the best aligned ones"
        ),
        change=_change(run, gemms, odd, multiple),
        evidence=(
            shown("misaligned matmuls", steady.per_step(int((odd & inside).sum())), "per step"),
            shown("device time", seconds(spent), "s"),
            *(shown("kernel", seconds(steady.per_step(ns)), "s", name) for name, ns in kernels),
        ),
        place=run.places(gemms.op[[worst]])[0],
        symptom_of=("unfused-attention",) if _mostly_attention(run, mask) else (),
    )


def _mostly_attention(run: Run, mask: Mask) -> bool:
    """Whether most of this time is in unfused attention: a fused kernel has no such sizes."""
    chains = attention_chains(run)
    if chains is None:
        return False
    time = run.activity.end - run.activity.start
    inside = np.zeros(run.activity.count, np.bool_)
    inside[chains.entry] = True
    return bool(time[mask & inside].sum() * 2 > time[mask].sum())


def _spelled(sizes: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in sizes)


def _change(run: Run, gemms: Gemms, odd: Mask, multiple: Rows) -> Change:
    usual, best = reference_efficiency(gemms, ~odd & (multiple > 1), _USUAL_EFFICIENCY)
    padded = [np.ceil(size / multiple) * multiple / np.maximum(size, 1) for size in (gemms.m, gemms.n, gemms.k)]
    more = (padded[0] * padded[1] * padded[2])[odd]
    rows = run.activity.row[gemms.entry[odd]]
    chosen = gemms.only(odd)
    mid, high = chosen.at(usual, more), chosen.at(best, more)
    low = (chosen.duration + mid) / 2
    return Change(*((SetDevice(rows, after.astype(np.int64)),) for after in (low, mid, high)))
