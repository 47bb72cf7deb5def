"""A comparison for a terminal and as markdown: step, prediction, breakdown, kernels, counts and settings."""

from __future__ import annotations

from collections.abc import Sequence

from mfu_doctor import quantities
from mfu_doctor.analysis.summary.tables import TOP
from mfu_doctor.comparison.compare import Change, Comparison
from mfu_doctor.comparison.prediction import Prediction
from mfu_doctor.render.words.escape import inline
from mfu_doctor.render.words.text import WIDTH, clean, each_text, kernel_name, pad, shorten, wrap

MOST_KERNELS = 10
NAME = 40  # columns of the first column
NOT_AMONG = "unlisted"
UNLISTED = f"{NOT_AMONG}: the kernel is not one of the {TOP} longest of that run, so its change is not known"
MOST_ROWS = 40  # settings, counts
SMALLEST = 0.001  # of the step: a bucket that is shorter, or a kernel that changed less, is not listed

Table = tuple[str, list[tuple[str, ...]]]


def render_comparison(comparison: Comparison) -> str:
    """The comparison for a terminal of 80 columns."""
    comparison = each_text(comparison, clean)
    runs = (
        ("before", comparison.before, comparison.before_verdict),
        ("after", comparison.after, comparison.after_verdict),
    )
    lines: list[str] = []
    for label, name, told in runs:
        lines += [shorten(f"{label:<8}{name}", WIDTH), *(f"{'':8}{row}" for row in wrap(told or "", WIDTH - 8))]
    lines.append("")
    lines += [f"  {row}" for row in wrap(_step(comparison), WIDTH - 2)]
    lines += [f"  {row}" for row in wrap(_prediction(comparison.prediction), WIDTH - 2)]
    for title, rows in _tables(comparison):
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        widths[0] = min(widths[0], NAME)
        lines += ["", f"  {title}"]
        for row in rows:
            cells = [pad(shorten(row[0], widths[0], middle=True), widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append(shorten("    " + "  ".join(cells).rstrip(), WIDTH))
    notes = _notes(comparison)
    lines += ["", *(f"  {row}" for note in notes for row in wrap(note, WIDTH - 2))] if notes else []
    return "\n".join(lines) + "\n"


def render_comparison_markdown(comparison: Comparison) -> str:
    """The comparison as GitHub-flavoured markdown; every value is escaped."""
    comparison = each_text(comparison, clean)
    lines = [f"### mfu-doctor: {inline(comparison.before)} → {inline(comparison.after)}", ""]
    lines += [inline(_step(comparison)), "", inline(_prediction(comparison.prediction))]
    told = (("before", comparison.before_verdict), ("after", comparison.after_verdict))
    lines += [row for label, text in told if text for row in ("", f"{label}: {inline(text)}")]
    for title, rows in _tables(comparison):
        lines += [
            "",
            f"#### {title}",
            "",
            "| " + " | ".join(["", "before", "after", "change", ""][: len(rows[0])]) + " |",
        ]
        lines.append("|" + "---|" + "---:|" * (len(rows[0]) - 1))
        lines += ["| " + " | ".join(inline(cell) for cell in row) + " |" for row in rows]
    lines += ["", *(f"- {inline(note)}" for note in _notes(comparison))]
    return "\n".join(lines).rstrip("\n") + "\n"


def _step(comparison: Comparison) -> str:
    """The headline sentence."""
    step, mfu = comparison.step, comparison.mfu
    text = f"step {_time(step.before)} to {_time(step.after)}"
    if step.relative is not None:
        text += f" ({quantities.signed_percent(step.relative)}), {_sure(step)}"
    if mfu is not None and mfu.before is not None and mfu.after is not None:
        moved = quantities.points(mfu.after - mfu.before)
        text += f"; MFU {quantities.percent(mfu.before)} to {quantities.percent(mfu.after)} ({moved})"
    return text


def _sure(change: Change) -> str:
    if change.real is None:
        return "too few steps to know the noise"
    return "more than the noise" if change.real else "within the noise"


def _prediction(prediction: Prediction) -> str:
    """Whether the predicted gain came true."""
    if prediction.predicted_s is None or prediction.low_s is None or prediction.high_s is None:
        return f"no prediction was checked: {prediction.reason}"
    span = quantities.duration_range(prediction.low_s, prediction.high_s, 3)
    of = (
        ""
        if quantities.duration(prediction.low_s) == quantities.duration(prediction.high_s)
        else " of the middle of the range"
    )
    error = quantities.signed_percent(prediction.error or 0.0)
    noise = f", noise: +-{quantities.duration(prediction.noise_s, 2)}" if prediction.noise_s else ""
    return (
        f"the prediction for {' and '.join(prediction.fixes)} {prediction.outcome}; predicted step: {span}, "
        f"measured step: {_time(prediction.measured_s)}, error{of}: {error}{noise}"
    )


def _tables(comparison: Comparison) -> list[Table]:
    """Titles and rows of what changed, without empty tables."""
    floor = SMALLEST * max(comparison.step.before or 0.0, comparison.step.after or 0.0)
    moved = [row for row in comparison.buckets if max(row.before or 0.0, row.after or 0.0) >= floor]
    kernels = [row for row in comparison.kernels if row.delta is None or abs(row.delta) >= floor][:MOST_KERNELS]
    counts = [_count_row(row) for row in comparison.counts[:MOST_ROWS]]
    settings: list[tuple[str, ...]] = [
        (setting.name, setting.before or "unknown", setting.after or "unknown")
        for setting in comparison.settings[:MOST_ROWS]
    ]
    tables: list[Table] = [
        ("Step time breakdown", [_time_row(row) for row in moved]),
        ("Kernels that changed most", [_kernel_row(row) for row in kernels]),
        ("Counts per step", counts),
        ("Settings", settings),
    ]
    return [table for table in tables if table[1]]


def _time_row(row: Change) -> tuple[str, ...]:
    sure = "" if row.real else "within the noise" if row.real is False else "noise unknown"
    return (row.name.replace("_", " "), _time(row.before), _time(row.after), _signed(row.delta), sure)


def _kernel_row(row: Change) -> tuple[str, ...]:
    times = (NOT_AMONG if value is None else _time(value) for value in (row.before, row.after))
    return (kernel_name(row.name, NAME), *times, _signed(row.delta))


def _signed(delta: float | None) -> str:
    return "" if delta is None else f"{'+' if delta >= 0 else '-'}{_time(abs(delta))}"


def _count_row(row: Change) -> tuple[str, ...]:
    cells = ["unknown" if value is None else quantities.number(value) for value in (row.before, row.after)]
    return (row.name.replace("_", " "), *cells, "" if row.delta is None else quantities.signed_number(row.delta))


def _time(value: float | None) -> str:
    return "unknown" if value is None else quantities.duration(value)


def _notes(comparison: Comparison) -> list[str]:
    listed = comparison.kernels[:MOST_KERNELS]
    notes = [UNLISTED] if any(row.before is None or row.after is None for row in listed) else []
    notes += [f"new {name.replace('_', ' ')} at {', '.join(places)}" for name, places in comparison.places]
    notes += _rules("no longer found", comparison.fixed) + _rules("new findings", comparison.appeared)
    notes += [f"allowed to differ: {', '.join(comparison.allowed)}"] if comparison.allowed else []
    return notes + [f"caution: {text}" for text in comparison.cautions]


def _rules(words: str, rules: Sequence[str]) -> list[str]:
    return [f"{words}: {', '.join(rules)}"] if rules else []
