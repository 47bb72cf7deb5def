"""The process that makes a report beside the training, with the trace as its standard input.

The trace is an open file: the training may end meanwhile and put more into the one that has its name.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mfu_doctor.result.report import Report

from msgspec import Struct
from msgspec.structs import asdict

# Beside a training that keeps all cores busy this gets a tenth of one: a report of a second of work comes after ten. At 19 it
# comes after a minute, which is no report "as soon as it is recorded".
_NICENESS = 10
_FOR_OTHERS_S = 60.0  # the other ranks may record later: nobody waits for this process

CODE = "import sys; sys.path += sys.argv[3:]; from mfu_doctor.session.report_process import main; main()"
"""What the Python of this process is to run: after the path of the trace and the folder of the program come places of modules."""


class Made(Struct, frozen=True, kw_only=True):
    """What it writes.

    Attributes:
        text: the report.
        step_s: what a step took all in all until then, as it says: with what came between steps; None: it names no step.
    """

    text: str
    step_s: float | None

    @classmethod
    def read(cls, written: bytes) -> Made:
        """From what the process wrote.

        Raises:
            ValueError: it did not write this.
            TypeError: likewise.
        """
        return cls(**json.loads(written))


def main() -> None:
    """Make the report of the trace on standard input, behind what else wants to run."""
    from mfu_doctor.session import all_ranks
    from mfu_doctor.session.ending import report_of, told

    with suppress(OSError):
        os.nice(_NICENESS)
    threading.Thread(target=_end_with_the_reader, args=(sys.stdout.fileno(),), daemon=True).start()
    path, folder = Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else None
    all_ranks.be_patient(_FOR_OTHERS_S)
    report = report_of(path, folder, sys.stdin.buffer)
    made = Made(text=told(report, path, folder), step_s=_step_s(report))
    sys.stdout.buffer.write(json.dumps(asdict(made)).encode())


def _step_s(report: Report) -> float | None:
    run, step = report.whole_run, report.step_time_s
    return None if step is None else step.stated + (0.0 if run is None else run.pause_s)


def _end_with_the_reader(pipe: int) -> None:
    """A program that was killed, or left without Python's exit, wants no report: nothing of ours outlives it."""
    watch = select.poll()
    watch.register(pipe, 0)  # that nobody reads any more is told unasked
    watch.poll()
    os.kill(os.getpid(), signal.SIGKILL)
