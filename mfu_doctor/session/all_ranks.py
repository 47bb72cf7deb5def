"""What rank 0 prints when all ranks have written their traces: the report of the job instead of its own.

A rank that died writes nothing, and large traces take long to read, so training is not kept from ending for either: the wait
and the size of what is read are bounded. Otherwise rank 0 prints its own report, which ends with the command that reads all.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from mfu_doctor.capture.destination import SUFFIX
from mfu_doctor.result.report import Report
from mfu_doctor.units import NS_PER_S

LONGEST_WAIT_S = 3.0  # for the traces of the other ranks
_LOOKS_EVERY_S = 0.1
# Compressed traces of all ranks that are read within a few seconds: they shrink 16 times, and 60 MB of plain text take a second.
MOST_BYTES = 12 << 20


def are_all_there(report: Report, own: Path, *, within_s: float | None = None) -> bool:
    """Whether every rank of this run has written its trace, after a short wait, and they can be read soon.

    Args:
        report: that of this rank.
        own: its trace, in the folder of all.
        within_s: how long to wait; None: `LONGEST_WAIT_S`.
    """
    rank, several, whole = report.run.rank, report.run.world_size or 1, report.whole_run
    if rank is None or several == 1 or whole is None or own.name != f"rank{rank}{SUFFIX}":
        return False
    since_ns = time.time_ns() - int(whole.wall_s * NS_PER_S)  # older files are of another run
    until = time.monotonic() + (LONGEST_WAIT_S if within_s is None else within_s)
    others = [own.with_name(f"rank{number}{SUFFIX}") for number in range(several)]
    while not all(_is_new(path, since_ns) for path in others):
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOKS_EVERY_S)
    return sum(path.stat().st_size for path in others) <= MOST_BYTES


def job_told(own: Path, folder: Path | None) -> str:
    """The report of all ranks in the folder of this trace as text, whose commands can be pasted where the program was started.

    They are read in this process: it has threads and devices that a copy of it could not use.

    Raises:
        DoctorError: there is none.
    """
    from mfu_doctor.inputs.settings import Settings, find_settings
    from mfu_doctor.job.diagnose import diagnose_job
    from mfu_doctor.render import render
    from mfu_doctor.render.words.next_commands import Origin

    shown = own.parent.relative_to(folder) if folder is not None and own.is_relative_to(folder) else own.parent
    settings = Settings() if folder is None else find_settings(folder)
    with ThreadPoolExecutor(1) as here:
        made = diagnose_job(own.parent, settings=settings, executor=here)
    report = replace(made.report, source=str(shown))
    return render(report, "terminal", origin=Origin(str(shown))).rstrip("\n")


def _is_new(path: Path, since_ns: int) -> bool:
    try:
        return path.stat().st_mtime_ns >= since_ns
    except OSError:
        return False
