"""`mfu-doctor run` on the example GPT, as it is and with a slow loader, in turns with the program alone."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import mfu_doctor
from on_gpu_parts.job import ROOT, Job, bounded

PROGRAM = ROOT / "examples" / "nanogpt.py"
TEXT = ROOT / "examples" / "lighthouse.txt"
TIME = re.compile(r"step (\d+): loss \S+, ([\d.]+) s")
TURNS = {"none": 2, "slow-loader": 1}  # the loader decides the latter: 20 ms for each sample
DELAY = {"none": 0.0, "slow-loader": 0.02}


@dataclass(frozen=True)
class Size:
    """A model and a run of it."""

    steps: int
    slow_steps: int
    batch: int
    block: int
    width: int
    layers: int
    bf16: bool

    def arguments(self, fault: str, text: Path) -> list[str]:
        """Of the program."""
        numbers = {"batch": self.batch, "block": self.block, "width": self.width, "layers": self.layers}
        numbers["steps"] = self.steps if fault == "none" else self.slow_steps
        words = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
        return ["--fault", fault, "--text", str(text), *words, *["--bf16"] * self.bf16]

    def flops(self, vocabulary: int) -> float:
        """FLOP of a step, by hand: forward once and backward twice, attention over all pairs.

        A layer multiplies each token by 12 width^2 weights, the head by width x vocabulary; scores and their use are two products
        of block x width.
        """
        weights = self.layers * 12 * self.width**2 + self.width * vocabulary
        pairs = self.layers * 2 * self.block * self.width
        return 3 * 2.0 * (weights + pairs) * self.batch * self.block


TINY = Size(steps=32, slow_steps=24, batch=2, block=32, width=32, layers=1, bf16=False)
REAL = Size(steps=200, slow_steps=40, batch=32, block=512, width=1024, layers=8, bf16=True)


def found(job: Job) -> Iterator[dict[str, Any]]:
    """One line per run, and what they say together."""
    size = TINY if job.rehearse else REAL
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        text = scratch / "text.txt"
        text.write_text(TEXT.read_text(encoding="utf-8") * 8, encoding="utf-8")  # enough for all steps
        hand = size.flops(len(set(text.read_text(encoding="utf-8"))))
        for fault, turns in TURNS.items():
            alone, recorded = [], []
            for turn in range(1 if job.rehearse else turns):
                arguments = [str(PROGRAM), *size.arguments(fault, text)]
                alone.append(printed_step(finished(job, scratch, [sys.executable, *arguments])))
                yield {"fact": f"{fault}, alone", "turn": turn, "step_s": alone[-1]}
                trace = scratch / f"nanogpt-{fault}-{turn}.pt.trace.json.gz"
                run = [sys.executable, "-m", "mfu_doctor", "run", "-q", "-o", str(trace)]
                recorded.append(printed_step(finished(job, scratch, [*run, *arguments])))
                report = mfu_doctor.diagnose(trace)
                yield {"fact": f"{fault}, recorded", "turn": turn, "printed_step_s": recorded[-1], **told(report)}
                yield {"fact": f"{fault}, MFU", "turn": turn, **flops(report, hand, alone[-1])}
                yield {"fact": "kept", "trace": trace.name, "kept": turn == 0 and job.keep(trace, trace.name)}
            yield {"fact": f"{fault}, overhead", **overhead(alone, recorded)}
        lines = scratch / "live.jsonl"
        run = [sys.executable, "-m", "mfu_doctor", "run", "-q", "--live-file", str(lines)]
        finished(
            job,
            scratch,
            [*run, "-o", str(scratch / "live.pt.trace.json.gz"), str(PROGRAM), *size.arguments("none", text)],
        )
        last = json.loads(lines.read_text(encoding="utf-8").splitlines()[-1]) if lines.exists() else None
        yield {"fact": "meter", "flops_by_hand": hand, "last_line": last}


def finished(job: Job, scratch: Path, command: list[str]) -> str:
    """What a program printed; an error with its last words where it failed."""
    done = bounded(command, job.left_s, scratch)
    if done.failure is not None:
        raise SystemExit(f"{' '.join(command[1:])} {done.failure}")
    return done.out


def printed_step(output: str) -> float | None:
    """Seconds of a step by the program's own clock, from its second printed line to its last."""
    times = [(int(step), float(seconds)) for step, seconds in TIME.findall(output)][1:]
    if len(times) < 2:
        return None
    (first, begin), (last, end) = times[0], times[-1]
    return (end - begin) / (last - first)


def overhead(alone: list[float | None], recorded: list[float | None]) -> dict[str, Any]:
    """How much longer a step took while it was recorded, the windows with the profiler among the rest."""
    pairs = [(a, r) for a, r in zip(alone, recorded, strict=True) if a is not None and r is not None]
    return {"alone_s": [a for a, _ in pairs], "ratio": median(r / a for a, r in pairs) if pairs else None}


def flops(report: mfu_doctor.Report, hand: float, step_s: float | None) -> dict[str, Any]:
    """MFU of the report beside that of the FLOPs counted by hand over the step of the program alone."""
    mfu, peak = report.mfu, report.device.peak_flops
    by_hand = hand / step_s / peak if step_s and peak else None
    counted = {"flops": mfu.model_flops, "flops_by_hand": hand}
    return {"mfu": mfu.value, "mfu_by_hand": by_hand, **counted, "peak": peak, "reason": mfu.reason}


def told(report: mfu_doctor.Report) -> dict[str, Any]:
    """What the report says of a run."""
    time = report.step_time_s
    return {
        "device": report.device.name,
        "step_s": time.stated if time else None,
        "step_from": time.source if time else None,
        "timed_steps": time.n if time else None,
        "profiled_step_s": time.profiled if time else None,
        "steps": len(report.steps),
        "kernels": len(report.kernels),
        "waterfall": [[bar.name, bar.seconds] for bar in report.waterfall],
        "findings": [d.rule for d in report.failed],
        "samples": [[one.device, one.status, len(one.time_ns)] for one in report.samples],
        "caveats": [caveat.text for caveat in report.caveats],
    }
