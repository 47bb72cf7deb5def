"""The arguments and options of the verbs. Each is defined once, with its name, its help and its completions.

The names in the help of `--budget` and `--allow-different` are written out here, because `--help` imports nothing heavy.
A test compares them with the code.
"""

from __future__ import annotations

from typing import Annotated

import typer

from mfu_doctor.cli import completion

ReportedTraces = Annotated[
    list[str],
    typer.Argument(
        metavar="TRACE...",
        help="A trace (.json or .json.gz), a directory or an address such as s3://bucket/run/, a saved report, or "
        '"-" for a trace on standard input. Several ranks of one run are reported on together.',
    ),
]
Rank = Annotated[int | None, typer.Option(metavar="N", help="Of several ranks of a run, report on this one alone.")]
Dask = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Read the ranks on the Dask cluster with this scheduler (tcp://host:8786)."),
]
ExplainedTrace = Annotated[
    str | None,
    typer.Argument(
        metavar="[TRACE]", help="A trace or saved report: show what the rule found in it, with all numbers."
    ),
]
AnnotatedTrace = Annotated[
    str, typer.Argument(metavar="TRACE", help="A trace (.json or .json.gz), or a directory of traces.")
]
TracePaths = Annotated[
    list[str],
    typer.Argument(metavar="TRACE...", help="Traces or saved reports of one program. They are checked as one sample."),
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
        help='The name, code or alias ("no_sync") of a rule, or a family such as IN.',
        autocompletion=completion.rules,
    ),
]

Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file. Its suffix selects the format."),
]
TraceOutput = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the trace to this file (.json or .json.gz). This option is required.",
    ),
]
RunOutput = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the trace to this file, or into this directory."),
]
PeakFlops = Annotated[
    float | None,
    typer.Option(
        metavar="F",
        help="The dense peak of the device in FLOP/s, such as 989.5e12. It replaces the value from the device table.",
    ),
]
ModelFlops = Annotated[
    float | None,
    typer.Option(
        metavar="F",
        help="The FLOPs of one training step, such as 1.28e14. They replace the FLOPs counted from the trace.",
    ),
]
Steps = Annotated[str | None, typer.Option(metavar="A:B", help="Use only the recorded steps A to B-1.")]
Baseline = Annotated[str | None, typer.Option(metavar="REPORT", help="Show the change since this report or trace.")]
Baselines = Annotated[
    list[str] | None,
    typer.Option(metavar="REPORT", help="Compare with this report or trace. Can be repeated."),
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
        metavar="RULES",
        help="Do not run these rules: names, codes or families, separated by commas.",
        autocompletion=completion.listed_rules,
    ),
]
Fix = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE",
        help="The rule whose fix was applied. Can be repeated. Without this option, every finding of BEFORE that is not in "
        "AFTER is taken as fixed.",
        autocompletion=completion.rules,
    ),
]
AllowDifferent = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="Check even if the runs differ in KEY: device, count, dtype, model-flops, torch or timing. Can be repeated.",
        autocompletion=completion.keys,
    ),
]
AllowDifferentPair = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-different",
        metavar="KEY",
        help="Compare even if the runs differ in KEY: device, count, model-flops or timing. Can be repeated.",
        autocompletion=completion.compared_keys,
    ),
]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=LIMIT",
        help="Fail if a value is worse than this limit, such as step-time=+5% or mfu=30%. Can be repeated. Names: "
        "step-time, mfu, data-loading, memory-copy, communication, idle, syncs, launches, pageable-copies, fp32-matmuls, "
        "recompilations, loader-workers, unfused-optimizer-kernels, collectives, job-step-time, wait-for-ranks, rank-spread. The "
        "last three are of a job: a directory of several ranks.",
        autocompletion=completion.budgets,
    ),
]
Level = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE=LEVEL",
        help="Set a rule, code or family to off, warn or error. Can be repeated.",
        autocompletion=completion.levels,
    ),
]
ReportFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Output format: terminal, markdown, json, html or notebook.",
        autocompletion=completion.formats_of("report"),
    ),
]
VerdictFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Output format: terminal, markdown, github, junit or json.",
        autocompletion=completion.formats_of("verdict"),
    ),
]
ComparisonFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Output format: terminal, markdown or json.",
        autocompletion=completion.formats_of("comparison"),
    ),
]
ExplainFormat = Annotated[
    str,
    typer.Option(
        metavar="FORMAT", help="Output format: text, markdown or json.", autocompletion=completion.explain_formats
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show all findings and tables, not only the first screen.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not print the report.")]
Summary = Annotated[
    bool, typer.Option("--summary", help="Append the result to the GitHub Actions job summary ($GITHUB_STEP_SUMMARY).")
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Treat inconclusive checks as failed. A check is inconclusive if noise or missing data leaves it undecided.",
    ),
]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 even if checks fail.")]
Skip = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Skip the first N steps (warm-up of the training loop).")
]
Timed = Annotated[int | None, typer.Option(min=0, metavar="N", help="Time N steps without the profiler.")]
Warmup = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Run N steps with the profiler and discard them (warm-up of the profiler)."),
]
Active = Annotated[int | None, typer.Option(min=1, metavar="N", help="Record N steps with the profiler.")]
AtStep = Annotated[
    int | None,
    typer.Option(
        "--at-step", min=0, metavar="N", help="Record later: step N, counted from 0, is the first that is recorded."
    ),
]
LiveLines = Annotated[
    int | None,
    typer.Option("--live", min=1, metavar="N", help="Print loss, time and MFU every N steps, for the whole run."),
]
LiveFile = Annotated[
    str | None,
    typer.Option("--live-file", metavar="FILE", help="Add these lines to FILE as JSON, one object each."),
]
TriedProgram = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SCRIPT|-m MODULE|torchrun ... [ARGS]...",
        help="The training script or module, or what torchrun starts, and its own arguments.",
    ),
]
TriedFix = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Try this fix, such as fused-optimizer or loader-workers=2, or what a Python file of your own does before the "
        'program starts (mine.py). Can be repeated; "all" is every fix that applies. Without this option, the fixes of the plan '
        "are tried.",
        autocompletion=completion.remedies,
    ),
]
Minutes = Annotated[float, typer.Option(min=0.1, metavar="M", help="Time for all runs together, in minutes (10).")]
ListFixes = Annotated[bool, typer.Option("--list", help="List the fixes that can be tried, and run nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run, how often and for how long; run nothing.")]
TrialOutput = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the report with what was tried to this file (.json, .html), or what was tried alone (.txt, .md).",
    ),
]
TrialFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Output format: terminal, markdown, json or html.",
        autocompletion=completion.formats_of("trial"),
    ),
]
WritePatch = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the changes that helped to this file, as a patch.")
]
Board = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Write all that was ever tried on this machine to this file, as a markdown table."
    ),
]
