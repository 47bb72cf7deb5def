"""Work runs in float64, although neural networks rarely need it.

What it measures
    The time of operators whose largest tensor is in float64, and of matmuls in float64, and whether the model or only some
    tensors are.

Why it costs
    A float64 tensor has twice the bytes of a float32 tensor. GPUs compute in float64 at 1/2 (data centre) to 1/64 (GeForce) of
    their fp32 rate, and never with tensor cores in TF32, bf16 or fp16. A CPU processes half as many numbers per instruction, and
    its fast convolutions and LSTMs exist in float32 only. NumPy arrays are float64 unless told otherwise, and model.double() is
    often written only to make the dtypes match.

How the gain is predicted
    On a GPU, matmuls take FLOPs / (fp32 peak x efficiency), but at least half of their bytes / bandwidth. Low: the time divided
    by the square root of the ratio of the peaks. Mid: with 70 % of the efficiency that they have now. High: with 80 % efficiency.
    Other kernels move half of the bytes: 70 % (low) and 50 % (mid) of their time remain. High: if fp64 runs at less than half of
    the fp32 rate, the time is divided by the ratio of the peaks, but is at least that of half of the bytes.
    On a CPU 60, 45 and 30 % of the time remain (low, mid, high), of pooling and normalization 90, 70 and 40 %, after 1 us of
    dispatch that stays. Measured with torch 2.13 and one thread of an AMD EPYC with AVX-512. A convolution, with all the copies
    and slices inside its call, takes the larger of FLOPs / fp32 peak and half of its bytes / bandwidth, divided by 25, 50 and
    100 % efficiency, as in fallback-convolution; without a peak or FLOPs 50, 30 and 20 % remain.
    Mid and high remove conversions between float64 and other float dtypes, if the model is in float32.

How to fix
    model.float(), and float32 inputs: torch.from_numpy(array).float() once where the data is made, or array.astype(np.float32).
    In a loss, no .double(): accumulate a scalar in float64 if you must, not the tensor.

When it is wrong
    The rule is wrong if the program needs float64: solvers of differential equations, some models in physics and finance. It is
    not recommended where the run shows such a need: matrices in float64 are factorized or systems solved, derivatives of
    derivatives are taken, LBFGS is used, or float64 is the default dtype. The results change in the 8th digit, and sums of many
    small numbers can change more.

References
    https://pytorch.org/docs/stable/tensor_attributes.html#torch-dtype; NVIDIA, CUDA C programming guide, arithmetic instructions
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mfu_doctor.analysis.evidence.attribution import device_ns, removed
from mfu_doctor.analysis.evidence.digits import double_on_purpose
from mfu_doctor.analysis.evidence.double_precision import DoublePrecision, double_precision_of
from mfu_doctor.analysis.evidence.fast_convolutions import in_onednn
from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows, Steady, steady_of
from mfu_doctor.analysis.evidence.vocab_loss import vocab_loss_of
from mfu_doctor.analysis.replay.edits import Change, SetDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import EXECUTED
from mfu_doctor.quantities import share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.units import NS_PER_S, NS_PER_US, seconds

Floats = npt.NDArray[np.float64]

# Shares of the time that remain on a CPU, by kind of operator; see the docstring for how they were measured.
_CPU_LEFT = (0.6, 0.45, 0.3)
_CPU_CONVOLUTION_LEFT = (0.5, 0.3, 0.2)  # where their FLOPs or the fp32 peak are not known
_CPU_NORMALIZATION_LEFT = (0.9, 0.7, 0.4)
_CPU_DISPATCH_NS = 1 * NS_PER_US  # an operator on few elements takes as long in either dtype
_GPU_LEFT = (0.7, 0.5, 0.5)
_GPU_LEAST_NS = 3 * NS_PER_US  # no kernel is shorter, whatever it computes
_KEPT_EFFICIENCY, _BEST_EFFICIENCY = 0.7, 0.8  # as in fp32-matmul
_HALF_RATE = 2.0  # ratio of the peaks up to which the bytes are the bound
_NEED = "leave it if what is computed needs more than 7 digits (orbits, solvers of differential equations)"
_MOST = 0.5  # of this work, from which on it is the loss over a vocabulary that does it


@rule("fp64-work", "KE031", "work runs in float64", also=("double", "float64", "fp64"))
def fp64_work(run: Run) -> Outcome:
    """Judge the work in float64."""
    found = double_precision_of(run)
    if found is None:
        told = any(args.types is not None for args in run.trace.args)
        return None if told else Skip("dtypes were not recorded: record with record_shapes=True")
    steady = steady_of(run)
    spent = device_ns(run, steady, found.entries)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    casts = device_ns(run, steady, found.casts)
    return Finding(
        summary=f"Work in float64 takes {steady.share(spent)} of the step"
        + ("" if found.is_model else "; the matmuls are not part of it"),
        fix=_fix(run, found),
        detail=_detail(run, found),
        decides=Ends(low="little of the work is bound by its dtype", high="kernels reach the full rates of fp32"),
        change=_change(run, found),
        evidence=(
            shown("work in float64", seconds(spent), "s"),
            shown("conversions from and to float64", seconds(casts), "s"),
            shown("model in float64", "yes" if found.is_model else "no"),
        ),
        risk="rounding",
        place=None if found.origin is None or found.is_model else run.places(np.array([found.origin]))[0],
        symptom_of=("large-vocab-loss",) if _is_vocab_loss(run, steady, found) else (),
        withhold=double_on_purpose(run, found.entries, WORTH_SHARE * steady.step_ns),
        raised_peak=run.peaks.of("fp32") if found.is_model else None,
    )


def _fix(run: Run, found: DoublePrecision) -> str:
    stored = run.facts.parameter_dtypes if run.facts is not None else ()
    if found.is_model or any("64" in dtype for dtype in stored):
        return (
            "model = model.float()  # and float32 inputs: torch.from_numpy(array).float(), once where the data is made"
        )
    if found.origin is not None:
        return "x = x.float()  # instead of .double(), float64 arrays or float64 constants"
    return "x = torch.from_numpy(array).float()  # NumPy arrays are float64; convert once, where the data is made"


def _detail(run: Run, found: DoublePrecision) -> str | None:
    """How much slower this device is in float64, and that a model can be in it on purpose, which a trace need not show."""
    said = [_NEED] if found.is_model else []
    slow, fast = run.peaks.of("fp64"), run.peaks.of("fp32")
    if not run.is_cpu and slow is not None and fast is not None:
        said.insert(
            0,
            f"the fp64 peak of this device is {share(slow, fast)} of its fp32 peak, and each number has twice the bytes",
        )
    return "; ".join(said) or None


def _is_vocab_loss(run: Run, steady: Steady, found: DoublePrecision) -> bool:
    loss = vocab_loss_of(run, steady)
    return loss is not None and device_ns(run, steady, found.entries & loss.entries) > _MOST * device_ns(
        run, steady, found.entries
    )


def _change(run: Run, found: DoublePrecision) -> Change:
    convolved = in_onednn(run, found.entries & ~found.casts, bytes_left=0.5) if run.is_cpu else None
    whole = np.zeros(len(found.entries), np.bool_) if convolved is None else convolved.entries
    entry = np.flatnonzero((found.entries & ~found.casts) | whole)
    rows, which = np.unique(run.activity.row[entry], return_inverse=True)
    now = np.bincount(which, run.unrecorded_ns[entry], minlength=len(rows)).astype(np.float64)
    kinds = np.zeros(len(rows), np.int64)
    kinds[which] = entry
    after = _on_cpu(run, now, kinds) if run.is_cpu else _on_gpu(run, now, kinds, (entry, which))
    if convolved is not None:
        after = tuple(
            _convolved(left, now, which[whole[entry]], share) for left, share in zip(after, convolved.left, strict=True)
        )
    casts = removed(run, found.casts) if found.casts.any() else ()
    low, mid, high = ((SetDevice(rows, np.minimum(left, now).astype(np.int64)),) for left in after)
    return Change(low, (*mid, *casts), (*high, *casts))


def _on_cpu(run: Run, now: Floats, entry: Rows) -> tuple[Floats, ...]:
    """Nanoseconds that remain of each row at each end."""
    convolution = run.kernels.is_kind("convolution")[entry]
    slow_anyway = run.kernels.is_kind("normalization")[entry] | _pooling(run)[entry]
    dispatch = np.minimum(now, _CPU_DISPATCH_NS)
    ends = zip(_CPU_LEFT, _CPU_CONVOLUTION_LEFT, _CPU_NORMALIZATION_LEFT, strict=True)
    return tuple(
        dispatch + (now - dispatch) * np.where(convolution, conv, np.where(slow_anyway, norm, other))
        for other, conv, norm in ends
    )


def _convolved(after: Floats, now: Floats, rows: Rows, left: Floats) -> Floats:
    """The same with these shares left of the rows of convolutions."""
    changed = after.copy()
    changed[rows] = now[rows] * left
    return changed


def _pooling(run: Run) -> Mask:
    named = np.array(["pool" in name for name in run.trace.names], np.bool_)
    found: Mask = named[run.trace.events.name[run.activity.row]]
    return found


def _on_gpu(run: Run, now: Floats, first: Rows, all_of: tuple[Rows, Rows]) -> tuple[Floats, ...]:
    """Nanoseconds that remain of each row at each end."""
    entry, which = all_of
    peaks = run.peaks
    slow, fast = peaks.of("fp64"), peaks.of("fp32")
    ratio = max(fast / slow, 1.0) if slow and fast else 1.0
    flops = np.bincount(which, run.flops.per_entry(EXECUTED)[entry], minlength=len(now))
    moved = np.bincount(which, np.nan_to_num(run.least_bytes[entry]), minlength=len(now))
    least = np.maximum(moved / 2 / peaks.bandwidth * NS_PER_S if peaks.bandwidth else 0.0, _GPU_LEAST_NS)
    product = run.kernels.matmul_like[first] & (flops > 0) & bool(slow and fast)
    streaming = np.array([now * left for left in _GPU_LEFT])
    if ratio > _HALF_RATE:
        streaming[2] = np.where(moved > 0, now / ratio, streaming[2])
    efficiency = np.clip(flops / np.maximum(now, 1.0) * NS_PER_S / (slow or 1.0), 1e-3, 1.0)
    by_work = flops / (fast or 1.0) * NS_PER_S
    computed = (now / np.sqrt(ratio), by_work / (efficiency * _KEPT_EFFICIENCY), by_work / _BEST_EFFICIENCY)
    return tuple(
        np.maximum(np.where(product, work, other), least) for work, other in zip(computed, streaming, strict=True)
    )
