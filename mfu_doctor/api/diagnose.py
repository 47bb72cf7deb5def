"""`diagnose()`: what `mfu-doctor report` does, as a function."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from mfu_doctor.api.report import Report
from mfu_doctor.inputs.load import load_input
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.trace import Trace


def diagnose(
    source: str | os.PathLike[str] | BinaryIO | Trace,
    *,
    peak_flops: float | None = None,
    model_flops: float | None = None,
    steps: tuple[int, int] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    processes: int = 1,
) -> Report:
    """Diagnose a run. Values under ``[tool.mfu-doctor]`` in pyproject.toml are used for arguments that are not passed.

    Args:
        source: a trace (.json or .json.gz), a directory of traces, a saved report, an open binary stream, "-", or a `Trace`.
        peak_flops: dense peak of the device in FLOP/s; replaces the value from the device table.
        model_flops: FLOP per step; replaces the FLOPs counted from the trace.
        steps: analyse only recorded steps A <= n < B.
        select: run only these rules (names, codes or families).
        ignore: do not run these rules.
        processes: how many processes may read a large file together, including this one.

    Raises:
        DoctorError: the file is not a trace, has no steps, or a rule name is unknown.
    """
    stated = Overrides(
        peak_flops=peak_flops, model_flops=model_flops, steps=steps, select=tuple(select), ignore=tuple(ignore)
    )
    return Report.of(load_input(source, stated, processes=processes).report)
