"""A GradScaler scales gradients that are computed in bf16. bf16 has the range of fp32, so they do not underflow.

What it measures
    The check operators of GradScaler in runs whose matmuls are in bf16, and the wait of the CPU for their result.

Why it costs
    The check reads every gradient, and the CPU waits for the result before optimizer.step().

How the gain is predicted
    Low: the check kernels are removed.
    Mid and high: the wait for their result is removed as well.

How to fix
    Remove the GradScaler.

When it is wrong
    The rule is wrong if the model keeps some layers in fp16.

References
    https://pytorch.org/docs/stable/amp.html#gradient-scaling
"""

from __future__ import annotations

import re

import numpy as np

from mfu_doctor.analysis.evidence.attribution import calls_of, device_ns, removed, work_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.evidence.syncs import find_syncs
from mfu_doctor.analysis.replay.edits import Change, DropWaits
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.kernels import DTYPE_CODE
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.units import NS_PER_MS, seconds

_CHECK = re.compile(r"^aten::_amp_(foreach_non_finite_check_and_unscale_|update_scale_)$")
# GradScaler.step reads the result of its check right after it.
_READ_AFTER_NS = 5 * NS_PER_MS


@rule(
    "needless-grad-scaler",
    "HO012",
    "gradients are scaled although they cannot underflow",
    also=("grad-scaler", "inf-check"),
)
def needless_grad_scaler(run: Run) -> Outcome:
    """Judge the use of GradScaler by the dtype of the matmuls."""
    steady = steady_of(run)
    checks = steady.issued(run, calls_of(run, _CHECK))
    if not len(checks) or not _is_bf16(run):
        return None
    mask = work_of(run, _CHECK)
    syncs = find_syncs(run, steady).calls if not run.is_cpu else np.empty(0, np.int64)
    started = run.trace.events.start
    after = np.searchsorted(started[checks], started[syncs], side="right") - 1
    near = (after >= 0) & (started[syncs] - started[checks[np.maximum(after, 0)]] < _READ_AFTER_NS)
    gone = removed(run, mask)
    spent = device_ns(run, steady, mask)
    return Finding(
        summary=f"GradScaler takes {steady.share(spent)} of the step to check bf16 gradients, and the CPU waits for it "
        f"{counted(int(near.sum()) / steady.count, 'time')} per step",
        fix="loss.backward(); optimizer.step()  # bf16 has the range of fp32: no GradScaler",
        confidence="measured",
        decides=Ends(
            low="something else waits for the device in its place", high="nothing else waits for the device there"
        ),
        change=Change(gone, (*gone, DropWaits(syncs[near])), (*gone, DropWaits(syncs[near]))),
        evidence=(shown("checks", steady.per_step(len(checks)), "per step"), shown("device time", seconds(spent), "s")),
        place=run.places(checks[:1])[0],
    )


def _is_bf16(run: Run) -> bool:
    """Whether autocast is to bf16, or most of the matmul time runs in it."""
    precision = run.facts.precision if run.facts else None
    if precision is not None and precision.autocast_dtype is not None:
        return precision.autocast_dtype.removeprefix("torch.") in ("bfloat16", "bf16")
    products = run.kernels.matmul_like
    time = (run.activity.end - run.activity.start)[products]
    mine = run.kernels.dtype[products] == DTYPE_CODE["bf16"]
    return bool(time[mine].sum() * 2 > time.sum() > 0)
