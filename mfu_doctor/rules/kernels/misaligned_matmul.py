"""Matrix products have sizes that tensor cores cannot load in whole pieces, so they run on a slow path.

What it measures
    Products in 16 bits (TF32) of which M, N or K is no multiple of 8 (4), with their time and efficiency, against the
    aligned products of the same run.

Why it costs
    Tensor cores read 16 bytes at a time. Rows that do not start on such a boundary need narrower loads, or another kernel
    altogether.

How the gain is predicted
    The product is padded to the next multiple and runs at the efficiency of the aligned products of this run (median; 50
    % where there are none). Mid: that; low: half of the gain; high: their best.

How to fix
    Pad the vocabulary, the hidden size or the sequence to a multiple of 8, better of 64.

When it is wrong
    cuBLAS has become better at odd sizes; where the product is bound by memory, alignment changes little.

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
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Tensor cores load 16 bytes at a time: 8 elements of 16 bits, 4 of TF32 (NVIDIA, matrix multiplication background guide).
_MULTIPLE = {"bf16": 8, "fp16": 8, "tf32": 4, "fp8": 16}
_USUAL_EFFICIENCY = 0.5  # of aligned products, where this run has none to compare with


@rule(
    "misaligned-matmul",
    "KE006",
    "matrix sizes do not fit tensor cores",
    needs=(Need.DEVICE, Need.SHAPES, Need.PEAK),
    also=("tensor-cores", "padding", "vocabulary-size"),
)
def misaligned_matmul(run: Run) -> Outcome:
    """Judge the sizes of products on tensor cores."""
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
        summary=f"Products with sizes that are no multiple of {int(multiple[worst])} take "
        f"{steady.share(spent)} of the step",
        fix=f"# pad {_spelled(now)} to {_spelled(padded)}",
        detail=f"the longest is M x N x K = {_spelled(now)} in {gemms.dtype[worst]}",
        change=_change(run, gemms, odd, multiple),
        evidence=(
            shown("misaligned products", steady.per_step(int((odd & inside).sum())), "per step"),
            shown("device time", seconds(spent), "s"),
            *(shown("kernel", seconds(steady.per_step(ns)), "s", name) for name, ns in kernels),
        ),
        place=run.places(gemms.op[[worst]])[0],
        symptom_of=("unfused-attention",) if _mostly_attention(run, mask) else (),
    )


def _mostly_attention(run: Run, mask: Mask) -> bool:
    """Whether most of this time is in attention written out: a fused kernel has no such sizes."""
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
