"""`mfu-doctor report TRACE...`: the report of a trace, of all ranks of a run, of a stream, or as it was saved.

The result is text for the caller to print, or the file of `-o`. Notes about what was chosen go to standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.cli.origin import origin_of
from mfu_doctor.cli.rank_pages import places_of_pages, write_pages
from mfu_doctor.errors import DoctorError, NotATraceError
from mfu_doctor.files import write_file
from mfu_doctor.inputs.load import load_input, load_saved, load_saved_job, processors
from mfu_doctor.inputs.overrides import Overrides, parse_steps
from mfu_doctor.inputs.protect import files_of, protect
from mfu_doctor.job.load import Loaded, Reader, load
from mfu_doctor.quantities import counted
from mfu_doctor.render import format_for, render
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.report import Baseline, Report

if TYPE_CHECKING:
    from mfu_doctor.job.executors import Progress
    from mfu_doctor.render.terminal.paint import Abilities


class ReportOptions(Struct, frozen=True, kw_only=True):
    """Options of `report`, as the user wrote them."""

    output: str | None = None
    format: str | None = None
    baseline: str | None = None
    peak_flops: float | None = None
    model_flops: float | None = None
    steps: str | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    rank: int | None = None
    dask: str | None = None
    verbose: bool = False


class Written(Struct, frozen=True):
    """Text for standard output (empty if a file was written) and notes for standard error."""

    text: str
    notes: tuple[str, ...] = ()


def run_report(
    sources: str | Sequence[str],
    options: ReportOptions,
    screen: Abilities | None = None,
    progress: Progress | None = None,
) -> Written:
    """Make the report and render it.

    Args:
        sources: a trace, a directory, an address, a saved report, "-" for a trace on standard input, or the ranks of one run.
        options: what the user asked for.
        screen: what the stream that shows a terminal report can do.
        progress: called with the number of ranks that are read, and of all.

    Raises:
        DoctorError: unreadable input or a wrong option (exit code 2).
    """
    named = [sources] if isinstance(sources, str) else list(sources)
    format_for("report", options.format, options.output)  # wrong options fail before a gigabyte is read
    stated = Overrides(
        peak_flops=options.peak_flops,
        model_flops=options.model_flops,
        steps=parse_steps(options.steps),
        select=options.select,
        ignore=options.ignore,
        rank=options.rank,
    )
    inputs = [path for path in (*named, options.baseline) if path is not None]
    if options.output is not None:
        _protect(options.output, inputs)
    loaded = load(named, Reader(stated, dask=options.dask, progress=progress))
    origin = origin_of(named[0] if len(named) == 1 else None, loaded.report, is_saved=loaded.is_saved)
    if options.output is None:
        return Written(_rendered(loaded, stated, options, {"origin": origin}, screen), loaded.notes)
    read, pages = files_of(inputs), dict[int, str]()
    if isinstance(loaded.report, JobReport) and format_for("job", options.format, options.output) == "html":
        pages = places_of_pages(loaded.report, loaded.ranks, options.output)
    extra = {"origin": origin} | ({"pages": pages} if pages else {})
    write_file(options.output, _rendered(loaded, stated, options, extra), inputs=read)
    if not pages:
        return Written("", (*loaded.notes, f"wrote {options.output}"))
    write_pages(pages, loaded.ranks, options.output, read)
    beside = f"{counted(len(pages), 'page')} of ranks in {Path(options.output).with_suffix('.ranks')}"
    return Written("", (*loaded.notes, f"wrote {options.output}, and {beside}"))


def _rendered(
    loaded: Loaded,
    stated: Overrides,
    options: ReportOptions,
    given: dict[str, Any],
    screen: Abilities | None = None,
) -> str:
    report = loaded.report
    if isinstance(report, Report) and options.baseline is not None:
        report = replace(report, baseline=_baseline(options.baseline, stated))
    elif options.baseline is not None:
        raise DoctorError("--baseline is for the report of one rank", "mfu-doctor compare takes two jobs")
    chosen = format_for("job" if isinstance(report, JobReport) else "report", options.format, options.output)
    extra: dict[str, Any] = {}
    if chosen in ("terminal", "markdown", "html"):
        extra = given
    if chosen == "terminal":
        extra |= {"verbose": options.verbose} | ({"screen": screen} if options.output is None else {})
    return render(report, chosen, **extra)


def _baseline(path: str, stated: Overrides) -> Baseline:
    """The baseline of the report. A peak that the user passed is used for it too, so that both MFUs have one peak."""
    numbers = Overrides(peak_flops=stated.peak_flops, model_flops=stated.model_flops)
    before = load_input(path, numbers, threads=processors()).report
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
    if (load_saved_job(output) or load_saved(output)) is None:
        raise NotATraceError(
            f"{output} exists and is not an mfu-doctor report, so it is not overwritten", "pass another file with -o"
        )
