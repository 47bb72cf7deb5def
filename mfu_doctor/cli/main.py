"""The command line: a table of verbs, each a thin function over `mfu_doctor.commands`; the only module that prints or exits.

Nothing heavy is imported here: `mfu-doctor --help` starts without numpy, torch or any renderer.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mfu_doctor.errors import DoctorError

PROGRESS_AFTER_S = 2.0  # below this nobody wonders
BROKEN_PIPE = 141  # what a shell reports for a process ended by SIGPIPE (128 + 13)

app = typer.Typer(
    name="mfu-doctor",
    help="Tells why a PyTorch training run does not use its hardware fully, and what to do about it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

TracePath = Annotated[
    str, typer.Argument(metavar="TRACE", help="A trace (.json, .json.gz), a directory of traces, or a saved report.")
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="Write there; its suffix picks the format.")
]
PeakFlops = Annotated[
    float | None, typer.Option(metavar="F", help="Dense peak of the device in FLOP/s, e.g. 989.5e12.")
]
ModelFlops = Annotated[float | None, typer.Option(metavar="F", help="FLOP of one training step, e.g. 1.28e14.")]
Steps = Annotated[str | None, typer.Option(metavar="A:B", help="Judge only recorded steps A to B-1.")]
AllowDifferent = Annotated[
    list[str] | None, typer.Option(metavar="KEY", help="Compare although KEY differs. Repeatable.")
]


def main() -> None:
    """Run the command line; every error that we raise is one line on standard error."""
    try:
        app()
    except DoctorError as error:
        typer.echo(f"error: {_one_line(str(error))}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader (head, less) closed the pipe; standard output must not be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Tell why a PyTorch training run does not use its hardware fully, and what to do about it."""
    if version:
        from mfu_doctor import __version__

        typer.echo(f"mfu-doctor {__version__}")
        raise typer.Exit


@app.command()
def report(
    trace: TracePath,
    output: Output = None,
    format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="terminal, markdown, json, html or notebook.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="REPORT", help="A report or trace to show the change from.")
    ] = None,
    peak_flops: PeakFlops = None,
    model_flops: ModelFlops = None,
    steps: Steps = None,
    select: Annotated[
        list[str] | None, typer.Option(metavar="R,..", help="Only these rules, codes or families.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="R,..", help="Leave these rules, codes or families out.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Everything, not one screen.")] = False,
) -> None:
    """Say how much of the hardware a run uses, where each step goes, and which fix pays. TRACE may be "-" for a stream."""
    from mfu_doctor.cli.report import ReportOptions, run_report
    from mfu_doctor.inputs.overrides import split_names
    from mfu_doctor.render.terminal.terminal import abilities

    chosen = ReportOptions(
        output=output,
        format=format,
        baseline=baseline,
        peak_flops=peak_flops,
        model_flops=model_flops,
        steps=steps,
        select=split_names(tuple(select or ())),
        ignore=split_names(tuple(ignore or ())),
        verbose=verbose,
    )
    with _progress(f"reading {trace}"):
        written = run_report(trace, chosen, abilities(sys.stdout))
    for note in written.notes:
        _note(note)
    _show(written.text)


@app.command()
def check(
    traces: Annotated[list[str], typer.Argument(metavar="TRACE...", help="Traces or saved reports of one program.")],
    baseline: Annotated[
        list[str] | None, typer.Option(metavar="REPORT", help="What to compare with. Repeatable.")
    ] = None,
    budget: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LIMIT", help="E.g. step-time=+5%. Repeatable.")
    ] = None,
    level: Annotated[
        list[str] | None, typer.Option(metavar="RULE=LEVEL", help="off, warn or error. Repeatable.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="terminal, markdown, github, junit or json.")
    ] = None,
    output: Output = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Append the checklist to the GitHub step summary.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Inconclusive checks fail.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 although checks failed.")] = False,
    allow_different: AllowDifferent = None,
    peak_flops: PeakFlops = None,
    model_flops: ModelFlops = None,
) -> None:
    """Judge runs against budgets and a baseline, for CI: exit 0 passed, 1 failed, 2 nothing to judge."""
    from mfu_doctor.cli.check import CheckOptions, run_check

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
    )
    with _progress("reading " + (traces[0] if len(traces) == 1 else f"{len(traces)} runs")):
        text, status = run_check(traces, chosen, environ=os.environ, folder=Path.cwd())
    _show(text)
    raise typer.Exit(status)


@app.command()
def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A trace or saved report.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The same with the change.")],
    output: Output = None,
    format: Annotated[str | None, typer.Option(metavar="FORMAT", help="terminal, markdown or json.")] = None,
    fix: Annotated[list[str] | None, typer.Option(metavar="RULE", help="The fix that was applied. Repeatable.")] = None,
    allow_different: AllowDifferent = None,
    peak_flops: PeakFlops = None,
    model_flops: ModelFlops = None,
) -> None:
    """Say what changed between two runs, and whether the gain predicted on BEFORE came true."""
    from mfu_doctor.cli.compare import CompareOptions, run_compare

    chosen = CompareOptions(
        format=format,
        output=output,
        fixes=tuple(fix or ()),
        allow_different=tuple(allow_different or ()),
        peak_flops=peak_flops,
        model_flops=model_flops,
    )
    with _progress(f"reading {before} and {after}"):
        text, status = run_compare(before, after, chosen)
    _show(text)
    raise typer.Exit(status)


# Everything after the script belongs to the script: options stop at the first word that is not one of ours.
@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def run(
    program: Annotated[
        list[str], typer.Argument(metavar="SCRIPT|-m MODULE [ARGS]...", help="What to run, and its arguments.")
    ],
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="The trace to write.")] = None,
    skip: Annotated[int | None, typer.Option(min=0, help="Steps to let the loop settle.")] = None,
    timed: Annotated[int | None, typer.Option(min=0, help="Steps timed without the profiler.")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="Steps profiled and thrown away.")] = None,
    active: Annotated[int | None, typer.Option(min=1, help="Steps recorded.")] = None,
    model_flops: ModelFlops = None,
    peak_flops: PeakFlops = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print the report at the end.")] = False,
) -> None:
    """Run an unchanged training script (or -m module) and diagnose it; its exit status is kept."""
    from mfu_doctor.cli.run import run_program
    from mfu_doctor.inputs.overrides import Overrides

    stated = Overrides(peak_flops=peak_flops, model_flops=model_flops)  # told before the program starts
    schedule = {"skip": skip, "timed": timed, "warmup": warmup, "active": active}
    status = run_program(
        program, output=output, schedule=schedule, flops=(stated.model_flops, stated.peak_flops), print_report=not quiet
    )
    sys.exit(status)


@app.command()
def explain(
    rule: Annotated[
        str | None, typer.Argument(metavar="[RULE]", help="A rule's name or code, or a family such as IN.")
    ] = None,
    format: Annotated[str, typer.Option(metavar="FORMAT", help="text, markdown or json.")] = "text",
) -> None:
    """Explain a rule: what it measures, how the gain is predicted, how to fix it, when it is wrong. Without one, list all."""
    from mfu_doctor.cli.explain import run_explain

    _show(run_explain(rule, format))


@app.command()
def annotate(
    trace: TracePath,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The trace to write (.json or .json.gz).")
    ],
    steps: Steps = None,
    peak_flops: PeakFlops = None,
    model_flops: ModelFlops = None,
) -> None:
    """Write a copy of the trace with our findings in it, for ui.perfetto.dev."""
    from mfu_doctor.annotation.annotate import annotate as write
    from mfu_doctor.inputs.overrides import parse_steps
    from mfu_doctor.quantities import size_of

    with _progress(f"reading {trace}"):
        made = write(trace, output, steps=parse_steps(steps), peak_flops=peak_flops, model_flops=model_flops)
    for note in made.notes:
        _note(note)
    _note(
        f"wrote {made.path} ({size_of(made.size_bytes)}, {made.kept:,} of {made.events:,} events); open it at ui.perfetto.dev"
    )


@app.command()
def selfcheck() -> None:
    """Show what this machine can record and read: paste it into a bug report."""
    from mfu_doctor.capture.selfcheck import selfcheck as look
    from mfu_doctor.cli.selfcheck import table
    from mfu_doctor.render.terminal.terminal import abilities

    _show(table(look(), abilities(sys.stdout)))


def _show(text: str) -> None:
    """Results go to standard output, byte for byte."""
    if text:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.stdout.write(text)
        sys.stdout.flush()


def _note(text: str) -> None:
    """Everything that is not the result goes to standard error."""
    typer.echo(_one_line(text), err=True)


def _one_line(text: str) -> str:
    """File names and parser messages come from outside: nothing in them may steer the terminal."""
    from mfu_doctor.render.words.text import clean

    return clean(text)


@contextmanager
def _progress(text: str) -> Iterator[None]:
    """One line on standard error when the work takes long and a person is watching."""
    if not sys.stderr.isatty():
        yield
        return
    timer = threading.Timer(PROGRESS_AFTER_S, _note, [f"{text} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
