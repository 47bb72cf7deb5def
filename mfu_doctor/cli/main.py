"""The command line: one thin function per verb. Only this module exits, and only it and `streams` print.

Nothing heavy is imported here: `mfu-doctor --help` starts without numpy, torch or any renderer.
"""

from __future__ import annotations

import os
import sys
from copy import copy
from functools import partial
from typing import Annotated, NoReturn

import typer

from mfu_doctor.cli import options as given
from mfu_doctor.cli import streams
from mfu_doctor.cli.help import Verb, Verbs
from mfu_doctor.cli.progress import count_ranks, watched
from mfu_doctor.cli.run_verb import Begin, run
from mfu_doctor.cli.sparing import spare
from mfu_doctor.cli.try_verb import try_
from mfu_doctor.errors import DoctorError

# Everything after the script belongs to the script. Our options end at the first word that is not one of them.
_REST_IS_ITS_OWN = {"allow_interspersed_args": False, "ignore_unknown_options": True}
BROKEN_PIPE = 141  # what a shell reports for a process ended by SIGPIPE (128 + 13)

app = typer.Typer(
    name="mfu-doctor",
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line. Every error of ours becomes one line on standard error."""
    streams.hold_places()
    spare(sys.argv[1:])
    try:
        try:
            verbs_of(sys.argv[1:])()
        except Begin as begin:
            program = begin.program
        sys.exit(program())
    except DoctorError as error:
        _fail(error)
    except BrokenPipeError:  # the reader (head, less) closed the pipe
        streams.give_up()
        sys.exit(BROKEN_PIPE)
    except OSError as error:  # a stream or a disk, where no verb knows more about it
        place = "a standard stream" if error.filename is None else os.fsdecode(error.filename)
        _fail(DoctorError(f"{place} cannot be used ({error.strerror or error})"))


def verbs_of(words: list[str]) -> typer.Typer:
    """The program; where its first word is a verb, with that one alone: typer looks at every parameter of all that it has."""
    mine = [
        one for one in app.registered_commands if words[:1] == [one.name or getattr(one.callback, "__name__", None)]
    ]
    if not mine:
        return app
    alone = copy(app)
    alone.registered_commands = mine
    return alone


def _fail(error: DoctorError) -> NoReturn:
    streams.write_line(f"error: {error}")
    streams.give_up()
    sys.exit(error.exit_code)


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Find out why a PyTorch training run does not use its hardware fully, and what to do about it."""
    if version:
        from mfu_doctor.version import __version__

        typer.echo(f"mfu-doctor {__version__}")
        raise typer.Exit


@app.command(cls=Verb)
def report(
    traces: given.ReportedTraces,
    output: given.Output = None,
    format: given.ReportFormat = None,
    baseline: given.Baseline = None,
    peak_flops: given.PeakFlops = None,
    model_flops: given.ModelFlops = None,
    steps: given.Steps = None,
    select: given.Select = None,
    ignore: given.Ignore = None,
    rank: given.Rank = None,
    dask: given.Dask = None,
    verbose: given.Verbose = False,
) -> None:
    """Report how much of the hardware a run uses, where its time goes, and what to fix first.

    Several ranks of one run are reported on together: which rank the others wait for, why, and what the job would gain.
    """
    from mfu_doctor.cli.report import ReportOptions, run_report
    from mfu_doctor.inputs.overrides import split_names
    from mfu_doctor.render.terminal.paint import abilities

    chosen = ReportOptions(
        output=output,
        format=format,
        baseline=baseline,
        peak_flops=peak_flops,
        model_flops=model_flops,
        steps=steps,
        select=split_names(tuple(select or ())),
        ignore=split_names(tuple(ignore or ())),
        rank=rank,
        dask=dask,
        verbose=verbose,
    )
    with watched(traces):
        written = run_report(traces, chosen, abilities(sys.stdout), count_ranks)
    for note in written.notes:
        streams.write_line(note)
    _show(written.text)


@app.command(cls=Verb)
def check(
    traces: given.TracePaths,
    baseline: given.Baselines = None,
    budget: given.Budget = None,
    level: given.Level = None,
    format: given.VerdictFormat = None,
    output: given.Output = None,
    summary: given.Summary = False,
    strict: given.Strict = False,
    exit_zero: given.ExitZero = False,
    allow_different: given.AllowDifferent = None,
    peak_flops: given.PeakFlops = None,
    model_flops: given.ModelFlops = None,
    dask: given.Dask = None,
) -> None:
    """Check runs against budgets and a baseline in CI.

    The exit code is 0 if all checks pass, 1 if one fails, and 2 if the runs cannot be checked.
    """
    from mfu_doctor.cli.check import CheckOptions, run_check
    from mfu_doctor.render.terminal.paint import abilities

    chosen = CheckOptions(
        baseline=tuple(baseline or ()),
        format=format,
        output=output,
        summary=summary,
        strict=strict,
        exit_zero=exit_zero,
        allow_different=tuple(allow_different or ()),
        budgets=tuple(budget or ()),
        levels=tuple(level or ()),
        peak_flops=peak_flops,
        model_flops=model_flops,
        dask=dask,
        progress=count_ranks,
    )
    with watched(traces):
        text, status = run_check(traces, chosen, environ=os.environ, screen=abilities(sys.stdout))
    _show(text)
    raise typer.Exit(status)


@app.command(cls=Verb)
def compare(
    before: given.Before,
    after: given.After,
    output: given.Output = None,
    format: given.ComparisonFormat = None,
    fix: given.Fix = None,
    allow_different: given.AllowDifferentPair = None,
    peak_flops: given.PeakFlops = None,
    model_flops: given.ModelFlops = None,
    dask: given.Dask = None,
) -> None:
    """Compare two runs: what changed, and whether the saving predicted for BEFORE came true."""
    from mfu_doctor.cli.compare import CompareOptions, run_compare
    from mfu_doctor.render.terminal.paint import abilities

    chosen = CompareOptions(
        format=format,
        output=output,
        fixes=tuple(fix or ()),
        allow_different=tuple(allow_different or ()),
        peak_flops=peak_flops,
        model_flops=model_flops,
        dask=dask,
        progress=count_ranks,
    )
    with watched((before, after)):
        text, status = run_compare(before, after, chosen, abilities(sys.stdout))
    _show(text)
    raise typer.Exit(status)


app.command(cls=Verb, context_settings=_REST_IS_ITS_OWN)(run)
app.command("try", cls=Verb, context_settings=_REST_IS_ITS_OWN)(try_)


@app.command(hidden=True, context_settings=_REST_IS_ITS_OWN)
def trial(orders: str, program: list[str]) -> None:
    """Run a program as `mfu-doctor try` tells: its child processes start here."""
    from mfu_doctor.cli.run import words_of
    from mfu_doctor.trial.child import run_child

    raise Begin(partial(run_child, orders, words_of(program)))


@app.command(cls=Verb)
def explain(
    rule: given.RuleName = None,
    trace: given.ExplainedTrace = None,
    format: given.ExplainFormat = "text",
) -> None:
    """Explain a rule, its fix, and when it is wrong. With TRACE, first what it found there. Without RULE, list all rules."""
    from mfu_doctor.cli.explain import run_explain

    _show(run_explain(rule, format, trace))


@app.command(cls=Verb)
def annotate(
    trace: given.AnnotatedTrace,
    output: given.TraceOutput,
    steps: given.Steps = None,
    peak_flops: given.PeakFlops = None,
    model_flops: given.ModelFlops = None,
) -> None:
    """Write a copy of a trace in which the findings are marked, for ui.perfetto.dev."""
    from mfu_doctor.annotation.annotate import annotate as write
    from mfu_doctor.inputs.overrides import parse_steps
    from mfu_doctor.quantities import counted, size_of

    with watched((trace,)):
        made = write(trace, output, steps=parse_steps(steps), peak_flops=peak_flops, model_flops=model_flops)
    for note in made.notes:
        streams.write_line(note)
    streams.write_line(
        f"wrote {made.path} ({size_of(made.size_bytes)}, with {made.kept:,} of {counted(made.events, 'event')} of the trace); "
        "open it at ui.perfetto.dev"
    )


@app.command(cls=Verb)
def selfcheck() -> None:
    """Show what this machine can record and read, for a bug report, and how right each rule has been in its trials."""
    from mfu_doctor.capture.selfcheck import selfcheck as look
    from mfu_doctor.cli.selfcheck import about_trials, table
    from mfu_doctor.render.terminal.paint import abilities
    from mfu_doctor.trial.record import read, record_file, standings

    place = record_file()
    _show(table(look(), abilities(sys.stdout)) + about_trials(standings(read(place)), str(place)))


def _show(text: str) -> None:
    """Results go to standard output, byte for byte."""
    if text:
        streams.write_result(text)
