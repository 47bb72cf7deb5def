"""`mfu-doctor run` on the example GPT, as it is and with a slow loader, in turns with the program alone."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mfu_doctor

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "nanogpt.py"
TIME = re.compile(r"step (\d+): loss \S+, ([\d.]+) s")
TINY = ("--steps", "32", "--batch", "2", "--block", "32", "--width", "32", "--layers", "1")
REAL = ("--steps", "80", "--batch", "32", "--block", "512", "--width", "1024", "--layers", "8")


def found(rehearse: bool) -> Iterator[dict[str, Any]]:
    """One line per run."""
    size = TINY if rehearse else REAL
    with tempfile.TemporaryDirectory() as scratch:
        for fault in ("none", "slow-loader"):
            arguments = (str(PROGRAM), *size, "--fault", fault)
            alone = finished([sys.executable, *arguments])
            yield {"fact": f"{fault}, alone", "step_s": printed_step(alone)}
            trace = Path(scratch) / f"{fault}.pt.trace.json.gz"
            finished([sys.executable, "-m", "mfu_doctor", "run", "-q", "-o", str(trace), *arguments])
            yield {"fact": f"{fault}, recorded", **told(mfu_doctor.diagnose(trace)), "bytes": trace.stat().st_size}


def finished(command: list[str]) -> str:
    """What a program printed; an error with its last words where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def printed_step(output: str) -> float | None:
    """Seconds of a step by the program's own clock, from its second printed line to its last."""
    times = [(int(step), float(seconds)) for step, seconds in TIME.findall(output)][1:]
    if len(times) < 2:
        return None
    (first, begin), (last, end) = times[0], times[-1]
    return (end - begin) / (last - first)


def told(report: mfu_doctor.Report) -> dict[str, Any]:
    """What the report says of a run."""
    time = report.step_time_s
    return {
        "device": report.device.name,
        "mfu": report.mfu.value,
        "step_s": time.stated if time else None,
        "step_from": time.source if time else None,
        "profiled_step_s": time.profiled_median if time else None,
        "kernels": len(report.kernels),
        "waterfall": [[bar.name, bar.seconds] for bar in report.waterfall],
        "findings": [d.rule for d in report.failed],
        "samples": [[one.device, one.status, len(one.time_ns)] for one in report.samples],
        "caveats": [caveat.text for caveat in report.caveats],
    }
