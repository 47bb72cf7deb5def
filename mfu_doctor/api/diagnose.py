"""`diagnose()` and `diagnose_job()`: what `mfu-doctor report` does with one rank and with all of them, as functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import BinaryIO

from mfu_doctor.api.job import JobReport
from mfu_doctor.api.report import Report
from mfu_doctor.inputs.load import load_input
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.job.diagnose import diagnose_job as diagnose_ranks
from mfu_doctor.trace import Trace


def diagnose(
    source: str | os.PathLike[str] | BinaryIO | Trace,
    *,
    peak_flops: float | None = None,
    model_flops: float | None = None,
    steps: tuple[int, int] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    rank: int | None = None,
    threads: int = 1,
) -> Report:
    """Diagnose a run. Values under ``[tool.mfu-doctor]`` in pyproject.toml are used for arguments that are not passed.

    Args:
        source: a trace (.json or .json.gz), a directory with one, a saved report, an open binary stream, "-", or a `Trace`.
        peak_flops: dense peak of the device in FLOP/s; replaces the value from the device table.
        model_flops: FLOP per step; replaces the FLOPs counted from the trace.
        steps: analyse only recorded steps A <= n < B.
        select: run only these rules (names, codes or families).
        ignore: do not run these rules.
        rank: of a directory with several ranks of a run, this one; `diagnose_job` diagnoses all of them together.
        threads: how many threads may read a large file together, including this one.

    Raises:
        DoctorError: the file is not a trace, has no steps, or a rule name is unknown.
    """
    stated = Overrides(
        peak_flops=peak_flops,
        model_flops=model_flops,
        steps=steps,
        select=tuple(select),
        ignore=tuple(ignore),
        rank=rank,
    )
    return Report.of(load_input(source, stated, threads=threads).report)


def diagnose_job(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    executor: Executor | None = None,
    peak_flops: float | None = None,
    model_flops: float | None = None,
    steps: tuple[int, int] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> JobReport:
    """Diagnose all ranks of a run together: which rank the others wait for, why, and what the job would gain.

    Args:
        source: a directory of traces, an address such as s3://bucket/run/, a pattern with ``*``, or the traces one by one.
        executor: where the ranks are read, by the protocol of `concurrent.futures`; of a Dask cluster
            ``distributed.Client(address).get_executor()``. None: processes of this machine. Where a new process would run
            your script again (it has other threads, or the system is not Linux), this process reads them, one after another; to
            read several at once there, guard the script with ``if __name__ == "__main__":`` and pass a `ProcessPoolExecutor`.
        peak_flops: as for `diagnose`; this and the following hold for every rank.
        model_flops: FLOP per step of one rank.
        steps: analyse only recorded steps A <= n < B.
        select: run only these rules (names, codes or families).
        ignore: do not run these rules.
        progress: called with the number of ranks that are read, and of all.

    Raises:
        DoctorError: fewer than two ranks of one run could be read, or a rule name is unknown.
    """
    stated = Overrides(
        peak_flops=peak_flops, model_flops=model_flops, steps=steps, select=tuple(select), ignore=tuple(ignore)
    )
    return JobReport.of(diagnose_ranks(source, stated, executor=executor, progress=progress).report)
