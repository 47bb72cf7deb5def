"""The arguments and options of the verbs, each defined once: its name, its whole sentence of help, and what completes it."""

from __future__ import annotations

from typing import Annotated

import typer

from mfu_doctor.cli import completion

TracePath = Annotated[
    str,
    typer.Argument(
        metavar="TRACE",
        help='A trace (.json or .json.gz), a directory of traces, a saved report, or "-" for a trace on standard input.',
    ),
]
TracePaths = Annotated[
    list[str],
    typer.Argument(metavar="TRACE...", help="Traces or saved reports of one program. They are judged together."),
]
Before = Annotated[str, typer.Argument(metavar="BEFORE", help="A trace or saved report of the run without the change.")]
After = Annotated[str, typer.Argument(metavar="AFTER", help="A trace or saved report of the run with the change.")]
Program = Annotated[
    list[str],
    typer.Argument(metavar="SCRIPT|-m MODULE [ARGS]...", help="The training script or module, and its own arguments."),
]
RuleName = Annotated[
    str | None,
    typer.Argument(
        metavar="[RULE]",
        help='A rule by its name, code or another name people use ("no_sync"), or a family such as IN.',
        autocompletion=completion.rules,
    ),
]

Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file. Its suffix selects the format."),
]
TraceOutput = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE", help="The trace to write, .json or .json.gz. It is required.")
]
RunOutput = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the trace to this file, or into this directory."),
]
PeakFlops = Annotated[
    float | None,
    typer.Option(
        metavar="F", help="The dense peak of the device in FLOP/s, such as 989.5e12. It replaces the table's."
    ),
]
ModelFlops = Annotated[
    float | None,
    typer.Option(metavar="F", help="The FLOPs of one training step, such as 1.28e14. They replace the count."),
]
Steps = Annotated[str | None, typer.Option(metavar="A:B", help="Use only the recorded steps A to B-1.")]
Baseline = Annotated[str | None, typer.Option(metavar="REPORT", help="Show the change from this report or trace.")]
Baselines = Annotated[
    list[str] | None,
    typer.Option(metavar="REPORT", help="Compare with this report or trace. It can be repeated."),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULES",
        help="Run only these rules: names, codes or families, separated by commas.",
        autocompletion=completion.listed_rules,
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULES", help="Do not run these rules, named in the same way.", autocompletion=completion.listed_rules
    ),
]
Fix = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE",
        help="The rule whose fix was applied. It can be repeated. Without it, the findings that are gone count.",
        autocompletion=completion.rules,
    ),
]
AllowDifferent = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="Compare even if the runs differ in KEY. It can be repeated.",
        autocompletion=completion.keys,
    ),
]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=LIMIT",
        help="Fail beyond this limit, such as step-time=+5% or mfu=30%. It can be repeated.",
        autocompletion=completion.budgets,
    ),
]
Level = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE=LEVEL",
        help="Set a rule, code or family to off, warn or error. It can be repeated.",
        autocompletion=completion.levels,
    ),
]
ReportFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Write terminal, markdown, json, html or notebook.",
        autocompletion=completion.formats_of("report"),
    ),
]
VerdictFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Write terminal, markdown, github, junit or json.",
        autocompletion=completion.formats_of("verdict"),
    ),
]
ComparisonFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT", help="Write terminal, markdown or json.", autocompletion=completion.formats_of("comparison")
    ),
]
ExplainFormat = Annotated[
    str,
    typer.Option(metavar="FORMAT", help="Write text, markdown or json.", autocompletion=completion.explain_formats),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show everything, not only one screen.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not print the report at the end.")]
Summary = Annotated[bool, typer.Option("--summary", help="Append the checklist to the GitHub step summary.")]
Strict = Annotated[bool, typer.Option("--strict", help="Let inconclusive checks fail.")]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 even if checks fail.")]
Skip = Annotated[int | None, typer.Option(min=0, metavar="N", help="Wait N steps first, until the loop is steady.")]
Timed = Annotated[int | None, typer.Option(min=0, metavar="N", help="Time N steps without the profiler.")]
Warmup = Annotated[int | None, typer.Option(min=0, metavar="N", help="Profile N steps and discard them.")]
Active = Annotated[int | None, typer.Option(min=1, metavar="N", help="Record N steps.")]
