"""The rows of the whole run: training steps as they usually are, and all else, each with its seconds, share and line."""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor import quantities
from mfu_doctor.facts.whole_run import AFTER, BEFORE, BETWEEN, LONG, PARTS, TRAINING, WholeRun
from mfu_doctor.render.words import columns
from mfu_doctor.result.report import Report

STEPS = "usual steps"
_PARTS = {BEFORE: "before step 1", BETWEEN: "between steps", LONG: "in long steps", AFTER: "after last step"}
_SLOW = "slow first steps"
MOST_ROWS = 4  # besides the steps; the rest is one row
_WORTH_TELLING = 0.01  # of the run
_ALL_STEPS = 0.98  # of the run: more is told in one sentence


class RunRow(Struct, frozen=True):
    """One row. `tenths` are tenths of a per cent; those of all rows sum to 1000."""

    label: str
    seconds: float
    tenths: int
    note: str = ""

    @property
    def time(self) -> str:
        """The seconds as printed alone."""
        return quantities.duration(self.seconds)

    @property
    def share(self) -> str:
        """The share as printed."""
        return f"{self.tenths / 10:.1f} %"


def title(report: Report) -> str:
    """What the rows are of."""
    assert report.whole_run is not None
    return _title(report.whole_run)


def _title(run: WholeRun) -> str:
    text = f"{quantities.duration(run.own_s)}, {quantities.counted(run.steps, 'step')}"
    return text if run.ended else f"{text}, not to its end"


def besides(report: Report) -> str:
    """What the recorder took besides."""
    run = report.whole_run
    assert run is not None
    return f"recording took {quantities.duration(run.recorder_s, 2)} more"


def caption(report: Report) -> str:
    """What the rows are of, and what they leave out."""
    return f"{title(report)}; {besides(report)}"


def sentence(report: Report) -> str | None:
    """The share that the steps explain, where that is nearly all; None if the rows are worth showing, or nothing is known."""
    run = report.whole_run
    if run is None or run.steps_s < _ALL_STEPS * run.own_s:
        return None
    return f"training steps are {quantities.share(run.steps_s, run.own_s)} of the run ({title(report)})"


def told(run: WholeRun) -> str:
    """What a run adds to a report of its recording: the share that its steps explain, and what else took longest."""
    steps = f"the whole run ({_title(run)}): usual steps are {quantities.share(run.steps_s, run.own_s)} of it"
    pauses = [
        f"{label} {quantities.duration(seconds)}" + (f" ({line})" if line else "")
        for label, seconds, line in _named(run)[:MOST_ROWS]
        if seconds >= _WORTH_TELLING * run.own_s
    ]
    return f"{steps}; {', '.join(pauses)}" if pauses else steps


def rows(report: Report, most: int | None = MOST_ROWS) -> list[RunRow]:
    """Training steps first, then everything else, longest first; empty without an account."""
    run = report.whole_run
    if run is None or run.own_s <= 0:
        return []
    found = _named(run)
    kept = found if most is None else found[:most]
    rest = sum(seconds for _, seconds, _ in found[len(kept) :])
    every = [(STEPS, run.steps_s, _about_steps(run)), *kept, *([("other", rest, "")] if rest > 0 else [])]
    parts = columns.apportion([seconds for _, seconds, _ in every], 1000)
    return [RunRow(label, s, tenths, note) for (label, s, note), tenths in zip(every, parts, strict=True) if tenths]


def _named(run: WholeRun) -> list[tuple[str, float, str]]:
    """Label, seconds and line of all that is no usual step."""
    seconds: dict[str, float] = {}
    lines: dict[str, dict[str, float]] = {}
    for part in PARTS:
        left = run.seconds_of(part)
        for e in (e for e in run.elsewhere if e.part == part):
            label = e.kind if e.kind not in (None, TRAINING) else _PARTS[part]
            seconds[label] = seconds.get(label, 0.0) + e.seconds
            left -= e.seconds
            text = ", ".join(t for t in (e.line, e.call) if t)
            lines.setdefault(label, {}).setdefault(text, 0.0)
            lines[label][text] += e.seconds
        if left > 0:
            seconds[_PARTS[part]] = seconds.get(_PARTS[part], 0.0) + left
    if run.startup_s > 0:
        seconds[_SLOW] = run.startup_s
        lines[_SLOW] = {quantities.first_of(run.startup_steps, "step"): 0.0}
    order = sorted(seconds, key=lambda label: -seconds[label])
    return [(label, seconds[label], max(lines.get(label, {"": 0.0}).items(), key=lambda i: i[1])[0]) for label in order]


def _about_steps(run: WholeRun) -> str:
    if not run.profiled_steps:
        return ""
    return f"{quantities.number(run.profiled_steps)} profiled"
