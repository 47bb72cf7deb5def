"""The report on what was read: the diagnosis of a trace, or a saved report with what the user states now.

All of the analysis and every rule is imported here. Who looks for an input or reads one needs none of it: see `load_input`.
"""

from __future__ import annotations

import numpy.ma  # noqa: F401 - numpy imports it when a quantile is first asked for

from mfu_doctor.analysis.run import Options, Run
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.restate import restated
from mfu_doctor.inputs.settings import Settings
from mfu_doctor.result.report import Report
from mfu_doctor.rules.catalogue import RULES, choose
from mfu_doctor.rules.contract import Rule
from mfu_doctor.trace import Trace


def report_on(trace: Trace, stated: Overrides, settings: Settings) -> Report:
    """The diagnosis of a trace.

    Raises:
        DoctorError: it has no step, or a rule is unknown.
    """
    return diagnose_run(Run(trace, options_for(trace, stated, settings)), rules_of(stated)).report


def report_again(saved: Report, stated: Overrides, settings: Settings) -> Report:
    """A saved report with what is stated now, and with a verdict, which old ones lack."""
    now = restated(saved, stated, settings)
    return now if now.verdict is not None else concluded(now)


def rules_of(stated: Overrides) -> tuple[Rule, ...]:
    """The rules that the user selected.

    Raises:
        DoctorError: a rule is unknown.
    """
    return choose(RULES, select=stated.select, ignore=stated.ignore)


def options_for(trace: Trace, stated: Overrides, settings: Settings) -> Options:
    """What holds for a trace: stated now, else stated when it was recorded (`Run` asks its facts), else in pyproject.toml."""
    given = trace.facts.given if trace.facts is not None else None
    peak, flops = stated.peak_flops, stated.model_flops
    if peak is None and (given is None or given.peak_flops is None):
        peak = settings.peak_flops
    if flops is None and (given is None or given.model_flops is None):
        flops = settings.model_flops
    return Options(peak_flops=peak, model_flops=flops, steps=stated.steps)
