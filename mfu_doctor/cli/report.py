"""`mfu-doctor report TRACE`: the report of a trace, a directory of traces, a stream, or a saved report.

The result is text for the caller to print, or the file of `-o`. Notes about what was chosen go to standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfu_doctor.errors import DoctorError, NotATraceError
from mfu_doctor.files import write_file
from mfu_doctor.inputs.load import load_input, load_saved, processors
from mfu_doctor.inputs.overrides import Overrides, parse_steps
from mfu_doctor.inputs.protect import files_of, protect
from mfu_doctor.render import format_for, render
from mfu_doctor.render.words.next_commands import Origin
from mfu_doctor.result.report import Baseline

if TYPE_CHECKING:
    from mfu_doctor.render.terminal.paint import Abilities


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Options of `report`, as the user wrote them."""

    output: str | None = None
    format: str | None = None
    baseline: str | None = None
    peak_flops: float | None = None
    model_flops: float | None = None
    steps: str | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """Text for standard output (empty if a file was written) and notes for standard error."""

    text: str
    notes: tuple[str, ...] = ()


def run_report(source: str, options: ReportOptions, screen: Abilities | None = None) -> Written:
    """Make the report and render it.

    Args:
        source: a trace, a directory, a saved report, or "-" for a trace on standard input.
        options: what the user asked for.
        screen: what the stream that shows a terminal report can do.

    Raises:
        DoctorError: unreadable input or a wrong option (exit code 2).
    """
    chosen = format_for("report", options.format, options.output)  # wrong options fail before a gigabyte is read
    stated = Overrides(
        peak_flops=options.peak_flops,
        model_flops=options.model_flops,
        steps=parse_steps(options.steps),
        select=options.select,
        ignore=options.ignore,
    )
    inputs = [path for path in (source, options.baseline) if path is not None]
    if options.output is not None:
        _protect(options.output, inputs)
    loaded = load_input(source, stated, processes=processors())
    report = loaded.report
    if options.baseline is not None:
        report = replace(report, baseline=_baseline(options.baseline, stated))
    extra: dict[str, Any] = {}
    if chosen in ("terminal", "markdown", "html"):
        extra = {"origin": Origin(source, loaded.is_saved)}
    if chosen == "terminal":
        extra |= {"verbose": options.verbose} | ({"screen": screen} if options.output is None else {})
    text = render(report, chosen, **extra)
    if options.output is None:
        return Written(text, loaded.notes)
    write_file(options.output, text, inputs=files_of(inputs))
    return Written("", (*loaded.notes, f"wrote {options.output}"))


def _baseline(path: str, stated: Overrides) -> Baseline:
    """The baseline of the report. A peak that the user passed is used for it too, so that both MFUs have one peak."""
    numbers = Overrides(peak_flops=stated.peak_flops, model_flops=stated.model_flops)
    before = load_input(path, numbers, processes=processors()).report
    if before.step_time_s is None:
        raise DoctorError(f"the baseline {path} has no step time", "pass a report of a trace with steps")
    return Baseline(
        trace=before.run.trace, step_time_s=before.step_time_s, mfu=before.mfu.value, breakdown=before.breakdown
    )


def _protect(output: str, inputs: Sequence[str]) -> None:
    """Refuse to overwrite an input, or a JSON file that is not a report, before anything is read."""
    protect(output, inputs)
    path = Path(output)
    if not path.is_file() or path.suffix.lower() != ".json" or not path.stat().st_size:
        return
    if load_saved(output) is None:
        raise NotATraceError(
            f"{output} exists and is not an mfu-doctor report, so it is not overwritten", "pass another file with -o"
        )
