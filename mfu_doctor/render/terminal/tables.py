"""What `-v` adds below the first screen: the MFU losses, every step, the kernels, the operators and the settings.

The first screen says what is wrong. These tables are for a reader who wants to check it.
"""

from __future__ import annotations

from mfu_doctor import quantities
from mfu_doctor.render.terminal.panels import INDENT, Look, code_table
from mfu_doctor.render.terminal.screen import Block, Line, line
from mfu_doctor.render.words import code_lines, labels, wording
from mfu_doctor.render.words.text import kernel_name, pad, shorten, wrap
from mfu_doctor.result.bottleneck import named
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import OpRow, StepRow
from mfu_doctor.units import TERA

KERNELS = 15  # rows of the kernel and operator tables
_MODELLED = "measured: from timestamps; modelled: calculated from a model of the kernels"


def appendix(report: Report, look: Look) -> list[Block]:
    """All tables that are not empty."""
    room = look.width - 2 * len(INDENT)
    parts = (
        ("Why MFU is below 100 %: time per step by cause", _waterfall(report)),
        ("Steps", _steps(report)),
        (code_lines.title(report), code_table(report.code_lines, room)),
        ("Kernels, per step", _kernels(report, room)),
        ("Operators, per step", _operators(report.ops, room)),
        ("Modules, per step", _operators(report.modules, room)),
        ("Counts, per step", _counts(report)),
        ("Run", _run(report)),
    )
    return [_table(title, rows, look) for title, rows in parts if rows]


def _table(title: str, rows: list[str], look: Look) -> Block:
    lines: list[Line] = [line(INDENT + title, "head")]
    for row in rows:
        whole = len(row) <= look.width - 4 or row.startswith(" ")  # aligned rows are cut, sentences are wrapped
        parts = [shorten(row, look.width - 4)] if whole else wrap(row, look.width - 6)
        lines += [line(INDENT * (3 if i else 2) + part) for i, part in enumerate(parts)]
    return Block(tuple(lines), gap=True)


def _waterfall(report: Report) -> list[str]:
    whole = sum(bar.seconds for bar in report.waterfall)
    rows = [
        f"{pad(shorten(named(bar.name), 34), 34)}{quantities.duration(bar.seconds):>10}"
        f"{quantities.percent(bar.seconds / whole):>9}  {bar.basis}"
        for bar in report.waterfall
        if whole > 0
    ]
    if report.waterfall and not rows:
        return []
    notes = [_MODELLED] if any(bar.basis == "modelled" for bar in report.waterfall) else []
    notes += [report.waterfall_note] if report.waterfall_note else []
    return [*rows, *notes]


def _steps(report: Report) -> list[str]:
    """Shares of each step. A star marks a step that is left out of the mean."""
    used = [name for name in wording.BUCKET_LABELS if any(row.split.share(name) > 0 for row in report.steps)]
    widths = {name: max(len(wording.BUCKET_LABELS[name]) + 2, 9) for name in used}
    rows = [
        f"{_number(row):<8}{quantities.duration(row.split.step_s):>9}"
        + "".join(quantities.percent(row.split.share(name)).rjust(widths[name]) for name in used)
        for row in report.steps
    ]
    if not rows:
        return []
    head = f"{'step':<8}{'time':>9}" + "".join(wording.BUCKET_LABELS[name].rjust(widths[name]) for name in used)
    note = (
        ["* warm-up or disturbed step, no part of the mean step"] if any(not row.steady for row in report.steps) else []
    )
    return [head, *rows, *note]


def _number(row: StepRow) -> str:
    return f"{row.number}" if row.steady else f"{row.number}*"


def _kernels(report: Report, room: int) -> list[str]:
    """Time, share, launches, rate and kind in columns, then the name, on two lines if it is long."""
    rows = [f"{'time':>9}{'share':>8}{'calls':>8}{'TFLOP/s':>9}  {'kind':<14} name"] if report.kernels else []
    for row in report.kernels[:KERNELS]:
        rate = "" if row.achieved_flops_s is None else quantities.significant(row.achieved_flops_s / TERA)
        cells = f"{quantities.duration(row.seconds):>9}{quantities.percent(row.share):>8}"
        cells += f"{quantities.number(row.count):>8}{rate:>9}"
        left = f"{cells}  {pad(row.kind, 14)} "
        names = wrap(kernel_name(row.name, 2 * (room - len(left))), room - len(left), lines=2) or [""]
        rows += [left + names[0], *(" " * len(left) + name for name in names[1:])]
    return [*rows, labels.OVERLAP] if wording.kernels_overlap(report) else rows


def _operators(ops: tuple[OpRow, ...], room: int) -> list[str]:
    name = room - 30
    rows = [
        f"{pad(shorten(row.name, name, middle=True), name)}{quantities.duration(row.host_s):>10}"
        f"{quantities.duration(row.device_s):>10}{quantities.number(row.count):>10}"
        for row in ops[:KERNELS]
    ]
    return [f"{'name':<{name}}{'host':>10}{'device':>10}{'calls':>10}", *rows] if rows else []


def _counts(report: Report) -> list[str]:
    rows = [f"{name.replace('_', ' ')}: {quantities.number(value)}" for name, value in report.structure.items()]
    return rows + [
        f"{name.replace('_', ' ')} at: {', '.join(places)}" for name, places in report.places.items() if places
    ]


def _run(report: Report) -> list[str]:
    run = report.run
    facts: list[tuple[str, object]] = [
        ("step boundaries from", labels.STEPS_FOUND_BY.get(run.steps_source, run.steps_source)),
        ("mfu_doctor.profile() called at", run.site),
        ("report made", report.created),
        *run.versions.items(),
        *run.settings.items(),
    ]
    return [f"{name}: {value}" for name, value in facts if value not in (None, "")]
