"""A comparison for a terminal and as markdown: step, prediction, breakdown, kernels, counts and settings."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from mfu_doctor import quantities
from mfu_doctor.analysis.summary.tables import TOP
from mfu_doctor.comparison.compare import Change, Comparison
from mfu_doctor.comparison.prediction import HELD, Prediction
from mfu_doctor.render.terminal.paint import Abilities, shown_on
from mfu_doctor.render.terminal.screen import BLANK, Line, Span, line
from mfu_doctor.render.words.escape import inline
from mfu_doctor.render.words.text import cells, clean, each_text, kernel_name, pad, shorten, wrap
from mfu_doctor.render.words.trial import in_report
from mfu_doctor.result.bottleneck import named

MOST_KERNELS = 10
LABEL = 8  # columns of "before" and "after"
NOT_AMONG = "unlisted"
UNLISTED = f"{NOT_AMONG}: the kernel is not one of the {TOP} longest of that run, so its change is not known"
MOST_ROWS = 40  # settings, counts
SMALLEST = 0.001  # of the step: a bucket that is shorter, or a kernel that changed less, is not listed

LEAST_NAME = 24  # columns of the first column in a row that is not folded
FULL_NAME = 120  # columns of a kernel's name in markdown
TWO_DECIMALS = 9.995  # a larger ratio has three digits, as all numbers
PROVES_LITTLE = 2.0  # a predicted step whose ends are so far apart comes true nearly whatever happens
SUMS = 0.005  # of the step: parts that differ less from it add up to it
SMALLEST_RATIO = 1.005  # less would be "1.00x faster"


class Table(Struct, frozen=True):
    """What changed: a title, and rows of a name, before, after, and what else the heads say."""

    title: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]
    is_of_kernels: bool = False

    def name(self, row: tuple[str, ...], width: int) -> str:
        """The name of a row in so many columns."""
        return kernel_name(row[0], width) if self.is_of_kernels else shorten(row[0], width, middle=True)


def render_comparison(comparison: Comparison, *, screen: Abilities | None = None) -> str:
    """The comparison for a terminal.

    Args:
        comparison: the two runs.
        screen: what the stream can show; if None, 80 columns without colour, as for a pipe.
    """
    screen = screen or Abilities()
    comparison = each_text(comparison, clean)
    runs = (
        ("before", comparison.before, comparison.before_verdict),
        ("after", comparison.after, comparison.after_verdict),
    )
    lines: list[Line] = []
    for label, name, told in runs:
        first, *rest = wrap(name, screen.width - LABEL) or [""]
        lines.append((Span(label.ljust(LABEL), "head"), Span(first)))
        lines += [line(" " * LABEL + row) for row in (*rest, *wrap(told or "", screen.width - LABEL))]
    lines += [BLANK, *_wrapped(_step(comparison), screen.width, "head")]
    lines += _wrapped(_prediction(comparison.prediction), screen.width)
    for table in _tables(comparison):
        lines += [BLANK, *_table_lines(table, screen.width)]
    notes = _notes(comparison)
    lines += [BLANK, *(row for note in notes for row in _wrapped(note, screen.width))] if notes else []
    return shown_on(screen, lines)


def _wrapped(text: str, width: int, role: str = "") -> list[Line]:
    return [line(f"  {row}", role) for row in wrap(text, width - 2)]


def _table_lines(table: Table, width: int) -> list[Line]:
    """Heads and rows in columns; folded, if values are so long that no room is left for names."""
    values = [row[1:] for row in (table.heads, *table.rows)]
    widths = [max(cells(row[i]) for row in values) for i in range(len(values[0]))]
    room = width - 4 - sum(column + 2 for column in widths)
    if room < LEAST_NAME:
        return _folded(table, width)
    longest = max(cells(table.title) - 2, *(cells(table.name(row, room)) for row in table.rows))
    room = min(room, longest)
    rows = [line(_columns(f"  {pad(shorten(table.title, room + 2), room + 2)}", values[0], widths), "head")]
    named = ((f"    {pad(table.name(row, room), room)}", row[1:]) for row in table.rows)
    return rows + [line(_columns(left, sides, widths)) for left, sides in named]


def _columns(left: str, values: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (" " * (column - cells(value)) + value for value, column in zip(values, widths, strict=True))
    return "  ".join([left, *numbers]).rstrip()


def _folded(table: Table, width: int) -> list[Line]:
    """Each row as a sentence of its name and values: nothing of them is cut."""
    rows = [line(f"  {table.title}", "head")]
    for row in table.rows:
        told = ", ".join(
            f"{head} {value}".strip() for head, value in zip(table.heads[1:], row[1:], strict=True) if value
        )
        first, *rest = wrap(f"{row[0]}: {told}", width - 6)
        rows += [line(f"    {first}"), *(line(f"      {more}") for more in rest)]
    return rows


def render_comparison_markdown(comparison: Comparison) -> str:
    """The comparison as GitHub-flavoured markdown; every value is escaped."""
    comparison = each_text(comparison, clean)
    lines = [f"### mfu-doctor: {inline(comparison.before)} → {inline(comparison.after)}", ""]
    lines += [inline(_step(comparison)), "", inline(_prediction(comparison.prediction))]
    told = (("before", comparison.before_verdict), ("after", comparison.after_verdict))
    lines += [row for label, text in told if text for row in ("", f"{label}: {inline(text)}")]
    for table in _tables(comparison):
        lines += ["", f"#### {table.title}", "", "| " + " | ".join(table.heads) + " |"]
        lines.append("|" + "---|" + "---:|" * (len(table.heads) - 1))
        for row in table.rows:
            shown = (table.name(row, FULL_NAME), *row[1:])
            lines.append("| " + " | ".join(inline(cell) for cell in shown) + " |")
    lines += ["", *(f"- {inline(note)}" for note in _notes(comparison))]
    return "\n".join(lines).rstrip("\n") + "\n"


def _step(comparison: Comparison) -> str:
    """The headline sentence."""
    step, mfu = comparison.step, comparison.mfu
    text = f"step {_time(step.before)} to {_time(step.after)}"
    if step.relative is not None:
        text = f"{_ratio(step)}: {text} ({quantities.signed_percent(step.relative)})"
    if mfu is not None and mfu.before is not None and mfu.after is not None:
        moved = quantities.points(mfu.after - mfu.before)
        text += f"; MFU {quantities.percent(mfu.before)} to {quantities.percent(mfu.after)} ({moved})"
    return text


def _ratio(step: Change) -> str:
    """How much faster the run after is, and whether that is more than the noise."""
    before, after = step.before or 0.0, step.after or 0.0
    ratio = max(before, after) / min(before, after) if before > 0 and after > 0 else 1.0
    if ratio < SMALLEST_RATIO:
        return "as fast as before"
    text = f"{ratio:.2f}" if ratio < TWO_DECIMALS else quantities.number(ratio)
    word = f"{text}x {'faster' if after < before else 'slower'}"
    if step.real is None:
        return f"{word} (too few steps to know the noise)"
    return f"{word}, more than the noise" if step.real else f"no change beyond the noise ({word})"


def _prediction(prediction: Prediction) -> str:
    """Whether the predicted gain came true."""
    if prediction.predicted_s is None or prediction.low_s is None or prediction.high_s is None:
        return f"no prediction was checked: {prediction.reason}"
    low, best, high = prediction.low_s, prediction.predicted_s, prediction.high_s
    span = "" if _time(low) == _time(high) else f" ({quantities.duration_range(low, high, 3)})"
    error = quantities.signed_percent(prediction.error or 0.0)
    noise = f", noise: +-{quantities.duration(prediction.noise_s, 2)}" if prediction.noise_s else ""
    came = prediction.outcome or ""
    if came == HELD and not low <= (prediction.measured_s or 0.0) <= high:
        came += " within the noise"
    elif came == HELD and high > PROVES_LITTLE * low:
        came += ", but its range is too wide to prove much"
    return (
        f"the prediction for {' and '.join(prediction.fixes)} {came}; predicted step: {_time(best)}{span}, "
        f"measured step: {_time(prediction.measured_s)}, error: {error}{noise}"
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
    sides = ("before", "after")
    tables = [
        Table(
            f"Step time breakdown{_profiled(comparison)}", ("", *sides, "change", ""), [_time_row(row) for row in moved]
        ),
        Table("Kernels that changed most", ("", *sides, "change"), [_kernel_row(row) for row in kernels], True),
        Table("Counts per step", ("", *sides, "change"), counts),
        Table("Settings", ("", *sides), settings),
    ]
    return [table for table in tables if table.rows]


def _profiled(comparison: Comparison) -> str:
    """What the parts add up to, where that is another step than the one above: the profiled one."""
    parts = [row for row in comparison.buckets if ":" not in row.name]
    whole = [
        sum(side or 0.0 for side in sides) for sides in zip(*((row.before, row.after) for row in parts), strict=True)
    ]
    steps = comparison.step.before, comparison.step.after
    alike = all(abs(all_of - (step or 0.0)) <= SUMS * all_of for all_of, step in zip(whole, steps, strict=False))
    return "" if alike else f" (profiled: {_time(whole[0])} to {_time(whole[1])})"


def _time_row(row: Change) -> tuple[str, ...]:
    sure = "" if row.real else "within the noise" if row.real is False else "noise unknown"
    return (named(row.name), _time(row.before), _time(row.after), _signed(row.delta), sure)


def _kernel_row(row: Change) -> tuple[str, ...]:
    times = (NOT_AMONG if value is None else _time(value) for value in (row.before, row.after))
    return (row.name, *times, _signed(row.delta))


def _signed(delta: float | None) -> str:
    return "" if delta is None else f"{'+' if delta >= 0 else '-'}{_time(abs(delta))}"


def _count_row(row: Change) -> tuple[str, ...]:
    sides = ["unknown" if value is None else quantities.number(value) for value in (row.before, row.after)]
    return (row.name.replace("_", " "), *sides, "" if row.delta is None else quantities.signed_number(row.delta))


def _time(value: float | None) -> str:
    return "unknown" if value is None else quantities.duration(value)


def _notes(comparison: Comparison) -> list[str]:
    listed = comparison.kernels[:MOST_KERNELS]
    notes = [UNLISTED] if any(row.before is None or row.after is None for row in listed) else []
    notes += [f"before: {in_report(one)}" for one in comparison.tried]
    notes += [f"new {name.replace('_', ' ')} at {', '.join(places)}" for name, places in comparison.places]
    notes += _rules("no longer found", comparison.fixed) + _rules("new findings", comparison.appeared)
    notes += [f"allowed to differ: {', '.join(comparison.allowed)}"] if comparison.allowed else []
    return notes + [f"caution: {text}" for text in comparison.cautions]


def _rules(words: str, rules: Sequence[str]) -> list[str]:
    return [f"{words}: {', '.join(rules)}"] if rules else []
