"""`mfu-doctor check TRACE...`: check runs against budgets and a baseline, and write the result for people and for CI.

Options of the verb, each a field of `CheckOptions`:

    TRACE...                    traces or saved reports of one program; several are checked as one sample; a directory of
                                several ranks is a job
    --baseline REPORT           trace or report to compare with; repeat it for each baseline run
    --format FORMAT             terminal (default), markdown, github, junit, json
    -o, --output FILE           file to write; without --format, its suffix (.md, .xml, .json, .txt) selects the format
    --summary                   append the result as markdown to $GITHUB_STEP_SUMMARY
    --strict                    treat inconclusive checks as failed
    --exit-zero                 exit with 0 even if checks fail
    --allow-different KEY       device, count, dtype, model-flops, torch or timing may differ; repeatable
    --budget NAME=VALUE         any budget, as in [tool.mfu-doctor.check]; repeatable: step-time=+5%, mfu=30%, syncs=0
    --level RULE=LEVEL          off, warn or error by rule, code or family; repeatable
    --peak-flops F, --model-flops F
    --dask ADDRESS              read the ranks of a job on this Dask cluster

Exit codes: 0 if all checks pass or only warn, 1 if at least one fails, 2 if an input or option is invalid or the runs cannot be
compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.cli.origin import origin_of
from mfu_doctor.errors import DoctorError
from mfu_doctor.files import append_file, write_file
from mfu_doctor.gate.judge import judge
from mfu_doctor.gate.levels import parse_levels
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.protect import files_of, protect
from mfu_doctor.inputs.settings import Settings, find_settings, settings_here
from mfu_doctor.job.executors import Progress
from mfu_doctor.job.load import LoadedRun, Reader, load_runs
from mfu_doctor.render import format_for, render
from mfu_doctor.render.terminal.paint import Abilities
from mfu_doctor.render.words.next_commands import naming
from mfu_doctor.result.verdict import EXIT_OK, Verdict

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
_EXAMPLES = {"--budget": "--budget step-time=+5%", "--level": "--level input-bound=error"}


class CheckOptions(Struct, frozen=True, kw_only=True):
    """Options of `check`; see the module's docstring. `budgets` and `levels` hold "NAME=VALUE" texts."""

    baseline: tuple[str, ...] = ()
    format: str | None = None
    output: str | None = None
    summary: bool = False
    strict: bool = False
    exit_zero: bool = False
    allow_different: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    peak_flops: float | None = None
    model_flops: float | None = None
    dask: str | None = None
    progress: Progress | None = None


def run_check(
    traces: Sequence[str],
    options: CheckOptions,
    *,
    environ: Mapping[str, str],
    folder: Path | None = None,
    screen: Abilities | None = None,
) -> tuple[str, int]:
    """Check the traces and write what the options ask for.

    Args:
        traces: paths of traces or saved reports.
        options: what the user asked for.
        environ: the environment, of which only `GITHUB_STEP_SUMMARY` is read.
        folder: the search for pyproject.toml starts here and goes upwards; None: the working directory.
        screen: what the stream that shows the text can do.

    Returns:
        The text for standard output (empty if it went to `output`) and the exit code.

    Raises:
        DoctorError: an invalid input or option, or runs that cannot be compared (exit code 2).
    """
    chosen = format_for("verdict", options.format, options.output)  # a wrong option fails before a gigabyte is read
    target = _summary_file(environ) if options.summary else None
    for written in (options.output, target):
        if written is not None:
            protect(written, [*traces, *options.baseline])
    settings = settings_here() if folder is None else find_settings(folder)
    policy = settings.policy(
        budgets=_pairs(options.budgets, "--budget"),
        levels=parse_levels(_pairs(options.levels, "--level")),
        strict=options.strict,
        allow_different=options.allow_different,
    )
    loaded = _load([*traces, *options.baseline], options, settings)
    reports = [one.report for one in loaded]
    verdict = judge(reports[: len(traces)], policy, baseline=reports[len(traces) :])
    verdict = _named(verdict, traces[0], loaded[0])
    on_screen = {"screen": screen} if chosen == "terminal" and options.output is None else {}
    text = render(verdict, chosen, **on_screen)
    if target is not None:
        append_file(target, render(verdict, "markdown"))
    if options.output is not None:
        write_file(options.output, text, inputs=files_of([*traces, *options.baseline]))
        text = ""
    return text, EXIT_OK if options.exit_zero else verdict.exit_code


def _named(verdict: Verdict, source: str, run: LoadedRun) -> Verdict:
    """With the trace in the commands of its fixes; of several runs the first one."""
    name = naming(run.report, origin_of(source, run.report, is_saved=run.is_saved))
    return replace(verdict, checks=tuple(replace(c, fix=name(c.fix) if c.fix else c.fix) for c in verdict.checks))


def _load(paths: Sequence[str], options: CheckOptions, settings: Settings) -> list[LoadedRun]:
    stated = Overrides(peak_flops=options.peak_flops, model_flops=options.model_flops)
    return load_runs(paths, Reader(stated, settings=settings, dask=options.dask, progress=options.progress))


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Names and values of "NAME=VALUE" texts."""
    out = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DoctorError(
                f"invalid value {text!r} for {option}", f"pass NAME=VALUE, for example {_EXAMPLES[option]}"
            )
        out[name.strip()] = value.strip()
    return out


def _summary_file(environ: Mapping[str, str]) -> Path:
    path = environ.get(SUMMARY_VARIABLE)
    if not path:
        raise DoctorError(
            f"--summary needs ${SUMMARY_VARIABLE}, which is not set", "use --summary only in a GitHub Actions job"
        )
    return Path(path)
