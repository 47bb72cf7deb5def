"""What `-v` adds below the screen: the waterfall, every step, the kernels, the operators and the settings.

The one screen answers "what is wrong"; these tables are for the person who wants to check the answer.
"""

from __future__ import annotations

from mfu_doctor.render import numbers
from mfu_doctor.render.panels import INDENT, Look
from mfu_doctor.render.screen import Block, Line, line
from mfu_doctor.render.text import pad, shorten
from mfu_doctor.report import OpRow, Report

KERNELS = 15  # rows of the kernel and operator tables


def appendix(report: Report, look: Look) -> list[Block]:
    """All tables that have something to show."""
    parts = (
        ("From peak to MFU", _waterfall(report)),
        ("Steps", _steps(report)),
        ("Kernels, per step", _kernels(report)),
        ("Operators, per step", _operators(report.ops)),
        ("Modules, per step", _operators(report.modules)),
        ("Counts, per step", _counts(report)),
        ("Run", _run(report)),
    )
    return [_table(title, rows, look) for title, rows in parts if rows]


def _table(title: str, rows: list[str], look: Look) -> Block:
    lines: list[Line] = [line(INDENT + title, "head")]
    lines += [line(shorten(INDENT * 2 + row, look.width)) for row in rows]
    return Block(tuple(lines), gap=True)


def _waterfall(report: Report) -> list[str]:
    whole = sum(bar.seconds for bar in report.waterfall)
    rows = [
        f"{pad(shorten(bar.name, 34), 34)}{numbers.duration(bar.seconds):>10}"
        f"{numbers.percent(bar.seconds / whole):>9}  {bar.basis}"
        for bar in report.waterfall
        if whole > 0
    ]
    return rows + ([report.waterfall_note] if report.waterfall_note and rows else [])


def _steps(report: Report) -> list[str]:
    return [
        f"{row.number:<6}{numbers.duration(row.split.step_s):>10}"
        f"  compute {numbers.percent(row.split.share('compute'))},"
        f" data loading {numbers.percent(row.split.share('data_loading'))},"
        f" idle {numbers.percent(row.split.share('idle'))}{'' if row.steady else '  (not steady)'}"
        for row in report.steps
    ]


def _kernels(report: Report) -> list[str]:
    rows = []
    for row in report.kernels[:KERNELS]:
        speed = f"  {numbers.flops_rate(row.achieved_flops_s)}" if row.achieved_flops_s is not None else ""
        left = f"{numbers.duration(row.seconds):>9}{numbers.percent(row.share):>8}{numbers.count(row.count):>7}x  "
        rows.append(f"{left}{pad(shorten(row.name, 30, middle=True), 30)} {row.kind}{speed}")
    return rows


def _operators(ops: tuple[OpRow, ...]) -> list[str]:
    return [
        f"{pad(shorten(row.name, 34, middle=True), 34)} host {numbers.duration(row.host_s):>8}"
        f"  device {numbers.duration(row.device_s):>8}  {numbers.count(row.count)}x"
        for row in ops[:KERNELS]
    ]


def _counts(report: Report) -> list[str]:
    rows = [f"{name.replace('_', ' ')}: {numbers.count(value)}" for name, value in report.structure.items()]
    return rows + [f"{name}: {', '.join(places)}" for name, places in report.places.items() if places]


def _run(report: Report) -> list[str]:
    run = report.run
    facts: list[tuple[str, object]] = [
        ("steps from", run.steps_source),
        ("profile() written at", run.site),
        ("created", report.created),
        *run.versions.items(),
        *run.settings.items(),
    ]
    return [f"{name}: {value}" for name, value in facts if value not in (None, "")]
