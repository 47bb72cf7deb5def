"""`mfu-doctor check TRACE...`: judge runs against budgets and a baseline, and write the outcome for people and for CI.

Options of the verb, each a field of `CheckOptions`:

    TRACE...                    traces or saved reports of one program; several are judged together
    --baseline REPORT           trace or report to compare with; give it once per baseline run
    --format FORMAT             terminal (default), markdown, github, junit, json
    -o, --output FILE           write there; the suffix (.md, .xml, .json, .txt) picks the format where --format does not
    --summary                   append the markdown checklist to $GITHUB_STEP_SUMMARY
    --strict                    inconclusive checks fail
    --exit-zero                 exit 0 although checks failed
    --allow-different KEY       device, count, dtype, model-flops, torch or timing may differ; repeatable
    --budget NAME=VALUE         any budget, as in [tool.mfu-doctor.check]; repeatable: step-time=+5%, mfu=30%, syncs=0
    --level RULE=LEVEL          off, warn or error by rule, code or family; repeatable
    --peak-flops F, --model-flops F

Exit codes: 0 all checks pass or only warn; 1 at least one failed; 2 nothing to judge, unlike runs, or a wrong option.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfu_doctor.errors import DoctorError
from mfu_doctor.files import refuse_inputs, write_file
from mfu_doctor.gate.judge import judge
from mfu_doctor.gate.levels import parse_levels
from mfu_doctor.inputs.load import load_input, processors
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.settings import Settings, find_settings
from mfu_doctor.render import format_for, render
from mfu_doctor.result.report import Report
from mfu_doctor.result.verdict import EXIT_OK

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
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


def run_check(
    traces: Sequence[str], options: CheckOptions, *, environ: Mapping[str, str], folder: Path
) -> tuple[str, int]:
    """Judge the traces and write what the options ask for.

    Args:
        traces: paths of traces or saved reports.
        options: what the user asked for.
        environ: the environment; only `GITHUB_STEP_SUMMARY` is read.
        folder: where to look for pyproject.toml, upwards.

    Returns:
        The text for standard output (empty where `output` took it) and the exit code.

    Raises:
        DoctorError: nothing to judge, unlike runs, or a wrong option (exit code 2).
    """
    chosen = format_for("verdict", options.format, options.output)  # a wrong option is told before a gigabyte is read
    target = _summary_file(environ) if options.summary else None
    if options.output is not None:
        refuse_inputs(options.output, [*traces, *options.baseline])
    settings = find_settings(folder)
    policy = settings.policy(
        budgets=_pairs(options.budgets, "--budget"),
        levels=parse_levels(_pairs(options.levels, "--level")),
        strict=options.strict,
        allow_different=options.allow_different,
    )
    reports, baseline = (_load(paths, options, settings) for paths in (traces, options.baseline))
    verdict = judge(reports, policy, baseline=baseline)
    text = render(verdict, chosen)
    if target is not None:
        _append(target, render(verdict, "markdown"))
    if options.output is not None:
        write_file(options.output, text, inputs=[*traces, *options.baseline])
        text = ""
    return text, EXIT_OK if options.exit_zero else verdict.exit_code


def _load(paths: Sequence[str], options: CheckOptions, settings: Settings) -> list[Report]:
    stated = Overrides(peak_flops=options.peak_flops, model_flops=options.model_flops)
    return [load_input(path, stated, settings=settings, processes=processors()).report for path in paths]


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Names and values of "NAME=VALUE" texts."""
    out = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DoctorError(f"{option} {text!r} is not NAME=VALUE", f"write for example {option} step-time=+5%")
        out[name.strip()] = value.strip()
    return out


def _summary_file(environ: Mapping[str, str]) -> Path:
    path = environ.get(SUMMARY_VARIABLE)
    if not path:
        raise DoctorError(f"--summary needs ${SUMMARY_VARIABLE}, which is not set", "use it in a GitHub Actions job")
    return Path(path)


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise DoctorError(f"{path} cannot be written ({error.strerror})", "check the path") from error
