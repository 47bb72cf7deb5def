"""What a rank had of the cores of its processor: ranks that share cores are late by turns, for nothing that they do."""

from __future__ import annotations

from statistics import fmean

from mfu_doctor.analysis.run import Run
from mfu_doctor.job.rank.ledger import ISSUING
from mfu_doctor.job.summary import Cores
from mfu_doctor.result.bottleneck import HOST_PARTS

_OPERATORS = ("compute", ISSUING)  # where operators run on the processor


def cores_of(run: Run, owners: tuple[str, ...]) -> Cores:
    """What a run had of the cores.

    Args:
        run: the run.
        owners: those of its ledger.
    """
    host = run.facts.host if run.facts is not None else None
    turns = host.turns if host is not None else None
    in_line = turns.training_waited * run.steps.mean_ns if turns is not None else 0.0
    longer = run.quickest.held_up_ns if run.quickest is not None else 0.0
    timed = run.timed_steps_s
    return Cores(
        operators=tuple(one for one in owners if run.is_cpu and one.startswith(_OPERATORS)),
        operators_held_up_ns=max(in_line, longer),
        host=tuple(one for one in owners if one in HOST_PARTS),
        host_held_up_ns=in_line,
        needed_s=(turns.training_ran + turns.training_waited) * fmean(timed) if turns is not None and timed else None,
    )
