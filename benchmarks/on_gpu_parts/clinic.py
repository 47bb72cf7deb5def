"""The clinic's patients on the device, faulty and mended in turns: predicted against measured."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from on_gpu_parts.job import Job, bounded

MOST_S = {True: 600.0, False: 60.0}  # that one patient may take, by whether it is a rehearsal


def found(job: Job) -> Iterator[dict[str, Any]]:
    """One line per patient, in order of value, until the time is over; one that fails is told and does not end the others."""
    from on_gpu_parts.patients import ORDER, PATIENTS

    for name in job.patients or ORDER:
        if job.left_s < 1.0:
            return
        with tempfile.TemporaryDirectory() as folder:
            told = treated(job, name, Path(folder))
            for trace in sorted(Path(folder).glob("*.gz")):
                told.setdefault("kept", []).append([trace.name, job.keep(trace, trace.name)])
        yield {"fact": name, "expects": PATIENTS[name].expects, **told}


def treated(job: Job, name: str, folder: Path) -> dict[str, Any]:
    """What a patient's process told, as far as it came."""
    command = [sys.executable, "-m", "on_gpu_parts.patient", name, str(folder), *["--rehearse"] * job.rehearse]
    done = bounded(command, min(job.left_s, MOST_S[job.rehearse]), folder)
    lines = [json.loads(line) for line in done.out.splitlines() if line.startswith('{"on_gpu"')]
    told = {line["on_gpu"]: line["told"] for line in lines}
    steps = told.pop("steps", {})
    sides = {side: steps[side] | told.pop(side, {}) for side in steps}
    failed = {"failed": done.failure} if done.failure is not None else {}
    return told | sides | failed
