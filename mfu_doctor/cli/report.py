"""`mfu-doctor report TRACE`: the report of a trace, a directory of traces, a stream, or a report saved before.

Results are text for the caller to print or a file that `-o` names; notes about what was chosen go to standard error.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfu_doctor.errors import DoctorError, NotATraceError
from mfu_doctor.inputs.load import load_saved, processors
from mfu_doctor.render import format_of, names, render
from mfu_doctor.result.report import Baseline, Report

if TYPE_CHECKING:
    from mfu_doctor.render.terminal.terminal import Abilities

STDIN = "-"
SMALLEST_PEAK = 1e9  # FLOP/s: less than a single core; a smaller number was meant in tera
_STEPS = re.compile(r"^(\d+):(\d+)$")


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
    """What came out: text for standard output (empty where a file took it) and notes for standard error."""

    text: str
    notes: tuple[str, ...] = ()


def run_report(source: str, options: ReportOptions, screen: Abilities | None = None) -> Written:
    """Make the report and render it.

    Args:
        source: a trace, a directory, a saved report, or "-" for a trace on standard input.
        options: what the user asked for.
        screen: what the stream that will show a terminal report can do.

    Raises:
        DoctorError: unreadable input or a wrong option (exit code 2).
    """
    chosen = _format(options)  # wrong options are told before a gigabyte is read
    checked = _diagnosis_options(options)
    if options.output is not None:
        _protect(options.output, source)
    report, notes = make_report(source, checked)
    if options.baseline is not None:
        report = replace(report, baseline=_baseline(options.baseline))
    extra: dict[str, Any] = {}
    if chosen == "terminal":
        extra = {"verbose": options.verbose, "source": None if source == STDIN else source}
        extra |= {"screen": screen} if options.output is None else {}
    text = render(report, chosen, **extra)
    if options.output is None:
        return Written(text, notes)
    write_text(options.output, text)
    return Written("", (*notes, f"wrote {options.output}"))


def make_report(source: str, options: dict[str, Any]) -> tuple[Report, tuple[str, ...]]:
    """The report, and what to tell about how the trace was chosen.

    Args:
        source: as for `run_report`.
        options: keyword arguments of `diagnose`; only given ones.

    Raises:
        DoctorError: unreadable input, or options that need the trace while only a saved report was given.
    """
    saved = None if source == STDIN else load_saved(source)
    if saved is not None:
        if options:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in options)
            raise DoctorError(f"{source} is a saved report, so {named} cannot be applied", "give the trace instead")
        return saved, ()
    options = _configured(options)
    from mfu_doctor.diagnosis.diagnose import diagnose

    if source == STDIN:
        from mfu_doctor.reading import read_trace

        return diagnose(replace(read_trace(sys.stdin.buffer), label="stdin"), **options), ()
    if Path(source).is_dir():
        from mfu_doctor.inputs.choose import choose_trace

        chosen = choose_trace(source)
        return diagnose(chosen.path, processes=processors(), **options), chosen.notes
    return diagnose(source, processes=processors(), **options), ()


def _configured(options: dict[str, Any]) -> dict[str, Any]:
    """The options over the numbers that the nearest pyproject.toml gives."""
    from mfu_doctor.inputs.settings import find_settings
    from mfu_doctor.rules.catalogue import RULES

    settings = find_settings(Path.cwd(), [(rule.name, rule.code) for rule in RULES])
    found = {"peak_flops": settings.peak_flops, "model_flops": settings.model_flops}
    return {name: value for name, value in found.items() if value is not None} | options


def _diagnosis_options(options: ReportOptions) -> dict[str, Any]:
    """Keyword arguments of `diagnose`: those given, checked."""
    check_flops(options.peak_flops, options.model_flops)
    given: dict[str, Any] = {"peak_flops": options.peak_flops, "model_flops": options.model_flops}
    given |= {"steps": parse_steps(options.steps), "select": options.select, "ignore": options.ignore}
    if options.select or options.ignore:
        from mfu_doctor.rules.catalogue import RULES, choose

        choose(RULES, select=options.select, ignore=options.ignore)
    return {name: value for name, value in given.items() if value not in (None, ())}


def check_flops(peak_flops: float | None, model_flops: float | None) -> None:
    """Refuse numbers in another unit than FLOP/s and FLOP.

    Raises:
        DoctorError: a number is not positive, or so small that tera was meant.
    """
    if peak_flops is not None and not SMALLEST_PEAK <= peak_flops < float("inf"):
        raise DoctorError(f"--peak-flops {peak_flops:g} is not a peak in FLOP/s", "write 989.5e12 for 989.5 TFLOP/s")
    if model_flops is not None and not 0 < model_flops < float("inf"):
        raise DoctorError(
            f"--model-flops {model_flops:g} is not a number of FLOP", "write 1.28e14 for 128 TFLOP a step"
        )


def parse_steps(text: str | None) -> tuple[int, int] | None:
    """Steps A <= n < B from "A:B".

    Raises:
        DoctorError: the text is not such a range.
    """
    if text is None:
        return None
    match = _STEPS.match(text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise DoctorError(f"--steps {text} is not a range of steps", "write A:B for steps A to B-1, such as 1:4")
    return int(match[1]), int(match[2])


def split_names(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Rule names from options that may be repeated and may hold several, separated by commas."""
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


def _format(options: ReportOptions) -> str:
    if options.format is not None:
        if options.format not in names():
            raise DoctorError(f"there is no report format {options.format!r}", f"use one of {', '.join(names())}")
        return options.format
    return format_of(options.output) if options.output is not None else "terminal"


def _baseline(path: str) -> Baseline:
    before, _ = make_report(path, {})
    if before.step_time_s is None:
        raise DoctorError(f"the baseline {path} has no step time", "give a report of a trace with steps")
    return Baseline(
        trace=before.run.trace, step_time_s=before.step_time_s, mfu=before.mfu.value, breakdown=before.breakdown
    )


def _protect(output: str, source: str) -> None:
    """Never replace the trace by its report, nor any JSON file that is not a report."""
    path = Path(output)
    if not path.is_file():
        return
    if source != STDIN and Path(source).exists() and path.samefile(source):
        raise DoctorError(f"{output} is the input itself", "name another file with -o")
    if path.suffix.lower() == ".json" and path.stat().st_size and load_saved(output) is None:
        raise NotATraceError(f"{output} exists and is not an mfu-doctor report", "name another file with -o")


def write_text(name: str, text: str) -> None:
    """Write a file as a whole: what stood there stays until the new text is complete.

    Raises:
        DoctorError: the file cannot be written.
    """
    target = Path(name)
    partial = target.with_name(target.name + ".part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise DoctorError(f"{name} cannot be written ({error.strerror})", "check the path") from error
