"""With gradient accumulation, gradients are reduced across ranks after each micro-batch instead of once per step.

What it measures
    Whether the collectives of a step repeat the same sequence of sizes once per micro-batch.

Why it costs
    The last reduction of a step also contains the sums of the earlier micro-batches. The earlier reductions are unnecessary.

How the gain is predicted
    Low: 75 % of the time of all reductions except those of the last micro-batch is removed.
    Mid and high: all of this time is removed.
    Collectives that overlap with compute save nothing.

How to fix
    Put with model.no_sync(): around all micro-batches except the last one. With fully_shard call set_requires_gradient_sync.
    With DeepSpeed set gradient_accumulation_steps.

When it is wrong
    The rule promises too much with FSDP if memory is full: no_sync keeps unsharded gradients.

References
    https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html#torch.nn.parallel.DistributedDataParallel.no_sync
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.collectives import Collectives, collectives_of
from mfu_doctor.analysis.evidence.parallelism import Parallelism, parallelism_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


@rule(
    "sync-every-microbatch",
    "CO004",
    "gradients are reduced after each micro-batch",
    needs=(Need.DEVICE,),
    also=("no-sync", "gradient-accumulation"),
)
def sync_every_microbatch(run: Run) -> Outcome:
    """Judge whether the same gradients are reduced several times in a step."""
    every = collectives_of(run)
    micro = _micro_batches(run)
    if every is None or micro < 2:
        return None
    steady = steady_of(run)
    reducing = np.flatnonzero(np.array([kind in ("allreduce", "reducescatter") for kind in every.kind]))
    repeated = [_repeated(every, own, micro) for own in _by_step(run, every, reducing)]
    if not repeated or any(r is None for r in repeated):
        return None
    early = np.concatenate([r for r in repeated if r is not None])
    rows = run.activity.row[every.entry[early]]
    inside = early[steady.entries(run)[every.entry[early]]]
    exposed = steady.per_step(float(every.exposed_ns[inside].sum()))

    def left(factor: float) -> tuple[ScaleDevice]:
        return (ScaleDevice(rows, np.full(len(rows), factor)),)

    return Finding(
        summary=f"GPU waits {steady.share(exposed)} of the step for unnecessary reductions: gradients are reduced "
        f"{micro} times per step",
        fix=_fix(parallelism_of(run)),
        decides=Ends(low="a quarter of it is waiting for late ranks, which stays", high="all of this time is transfer"),
        change=Change(left(0.25), left(0.0), left(0.0)),
        evidence=(
            shown("micro-batches", micro, "per step"),
            shown("unnecessary collectives", steady.per_step(len(inside)), "per step"),
            shown("exposed communication", seconds(exposed), "s"),
        ),
    )


def _fix(used: Parallelism) -> str:
    if used.ddp or used.fsdp1:
        return "with model.no_sync():  # around forward and backward of all micro-batches except the last one"
    if used.fsdp2:
        return "model.set_requires_gradient_sync(is_last_micro_batch)  # before forward of each micro-batch"
    if used.deepspeed:
        return '"gradient_accumulation_steps": micro_batches  # DeepSpeed config'
    return "# reduce the gradients only after the last micro-batch"


def _micro_batches(run: Run) -> int:
    if run.facts is not None and run.facts.micro_batches is not None:
        return round(run.facts.micro_batches)
    steady = steady_of(run)
    return round(steady.per_step(len(steady.issued(run, run.host.fetch_rows))))


def _by_step(
    run: Run, every: Collectives, chosen: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    start = run.activity.start[every.entry[chosen]]
    steps = zip(run.steps.start[run.steps.steady], run.steps.end[run.steps.steady], strict=True)
    return [chosen[(start >= a) & (start < b)] for a, b in steps]


def _repeated(
    every: Collectives, own: np.ndarray[tuple[int], np.dtype[np.int64]], micro: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """All but the last of `micro` equal rounds of collectives of one step, or None if rounds differ."""
    if not len(own) or len(own) % micro:
        return None
    rounds = every.size[own].reshape(micro, -1)
    return own[: -rounds.shape[1]] if (rounds == rounds[0]).all() and (rounds >= 0).all() else None
