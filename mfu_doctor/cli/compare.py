"""`mfu-doctor compare BEFORE AFTER`: what changed, whether it is more than noise, and whether the predicted saving came true.

Options of the verb:

    BEFORE AFTER                traces or saved reports; directories of several ranks are jobs
    --format FORMAT             terminal (default), markdown, json
    -o, --output FILE           file to write; without --format, its suffix (.md, .json, .txt) selects the format
    --fix RULE                  rule whose fix was applied; repeatable; without it, every finding that AFTER no longer has
    --allow-different KEY       device, count, model-flops or timing may differ; repeatable
    --peak-flops F, --model-flops F
    --dask ADDRESS              read the ranks of a job on this Dask cluster

Exit codes: 0 if the runs were compared, whatever the result is; 2 if an input or option is invalid or the runs are not
comparable.
"""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.comparison.compare import compare
from mfu_doctor.files import write_file
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.protect import files_of, protect
from mfu_doctor.job.executors import Progress
from mfu_doctor.job.load import Reader, load_runs
from mfu_doctor.render import format_for, render
from mfu_doctor.render.terminal.paint import Abilities


class CompareOptions(Struct, frozen=True, kw_only=True):
    """Options of `compare`; see the module's docstring."""

    format: str | None = None
    output: str | None = None
    fixes: tuple[str, ...] = ()
    allow_different: tuple[str, ...] = ()
    peak_flops: float | None = None
    model_flops: float | None = None
    dask: str | None = None
    progress: Progress | None = None


def run_compare(before: str, after: str, options: CompareOptions, screen: Abilities | None = None) -> tuple[str, int]:
    """Compare two runs.

    Args:
        before: path of a trace or saved report.
        after: path of the run with the change.
        options: what the user asked for.
        screen: what the stream that shows the text can do.

    Returns:
        The text for standard output (empty if it went to `output`) and exit code 0.

    Raises:
        DoctorError: an invalid input or option, or runs that cannot be compared (exit code 2).
    """
    chosen = format_for("comparison", options.format, options.output)  # a wrong option fails before a gigabyte is read
    if options.output is not None:
        protect(options.output, [before, after])
    stated = Overrides(peak_flops=options.peak_flops, model_flops=options.model_flops)
    old, new = load_runs([before, after], Reader(stated, dask=options.dask, progress=options.progress))
    comparison = compare(old.report, new.report, allow_different=options.allow_different, fixes=options.fixes)
    on_screen = {"screen": screen} if chosen == "terminal" and options.output is None else {}
    text = render(comparison, chosen, **on_screen)
    if options.output is None:
        return text, 0
    write_file(options.output, text, inputs=files_of([before, after]))
    return "", 0
