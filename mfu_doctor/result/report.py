"""The result: one `Report` object. Every screen, check and file is a pure function of it (schema 1).

Seconds are floats, FLOP are floats, shares are fractions of the step; the unit is in the field's name. A value that is not
known is None and a neighbouring `reason` says why. No screen shows anything that is not in this object.
"""

from __future__ import annotations

from msgspec import Struct, field

from mfu_doctor.facts import DeviceSamples
from mfu_doctor.facts.whole_run import WholeRun
from mfu_doctor.result.caveats import Caveat
from mfu_doctor.result.findings import (
    FAILED,
    NOT_MEASURED,
    PASSED,
    WITHHELD,
    WORTH_SHARE,
    Diagnosis,
    Ends,
    Evidence,
    Overlap,
    Plan,
    PlanStep,
    Saving,
)
from mfu_doctor.result.run import Convention, DeviceInfo, Mfu, ReplayInfo, RunInfo
from mfu_doctor.result.run_verdict import Limit, Loss, RunVerdict
from mfu_doctor.result.step import (
    BUCKETS,
    Bar,
    Block,
    Breakdown,
    CodeLine,
    Drawing,
    KernelRow,
    OpRow,
    StepRow,
    StepTime,
)
from mfu_doctor.result.trial import Trial

__all__ = [
    "SCHEMA",
    "Bar",
    "Baseline",
    "Block",
    "Breakdown",
    "Caveat",
    "CodeLine",
    "Convention",
    "DeviceInfo",
    "Diagnosis",
    "Drawing",
    "Ends",
    "Evidence",
    "KernelRow",
    "Limit",
    "Loss",
    "Mfu",
    "OpRow",
    "Overlap",
    "Plan",
    "PlanStep",
    "ReplayInfo",
    "Report",
    "RunInfo",
    "RunVerdict",
    "Saving",
    "StepRow",
    "StepTime",
    "Trial",
    "WholeRun",
]

SCHEMA = 1


class Baseline(Struct, frozen=True, kw_only=True):
    """The report that this one was judged against."""

    trace: str
    step_time_s: StepTime
    mfu: float | None = None
    breakdown: Breakdown = field(default_factory=Breakdown)


class Report(Struct, frozen=True, kw_only=True):
    """The result of a diagnosis: everything that any screen, gate or file shows."""

    schema: int = SCHEMA
    tool: str = "mfu-doctor"
    version: str = ""
    created: str = ""  # ISO 8601, UTC
    run: RunInfo
    device: DeviceInfo = field(default_factory=DeviceInfo)
    step_time_s: StepTime | None = None
    mfu: Mfu = field(default_factory=Mfu)
    breakdown: Breakdown = field(default_factory=Breakdown)
    waterfall: tuple[Bar, ...] = ()
    waterfall_note: str | None = None
    verdict: RunVerdict | None = (
        None  # what limits the run and what to do first; None only in reports of older versions
    )
    caveats: tuple[Caveat, ...] = ()  # what the reader may not rely on, most important first
    bound: str | None = None  # input-bound, launch-bound, ...: what has more than half of the step
    later_wait: float | None = None  # share of the recorded wait for data that the rest of the run has; None: not known
    savings_are_shares: bool = False  # seconds of savings say too much: profiled and timed steps are too far apart
    steps: tuple[StepRow, ...] = ()
    whole_run: WholeRun | None = None  # what the recorded block did with its wall time
    drawing: Drawing | None = None
    diagnoses: tuple[Diagnosis, ...] = ()
    plan: Plan = field(default_factory=Plan)
    replay: ReplayInfo = field(default_factory=ReplayInfo)
    kernels: tuple[KernelRow, ...] = ()
    ops: tuple[OpRow, ...] = ()
    modules: tuple[OpRow, ...] = ()
    code_lines: tuple[CodeLine, ...] = ()  # the user's lines with most device time, longest first
    samples: tuple[DeviceSamples, ...] = ()
    structure: dict[str, float] = field(default_factory=dict)  # deterministic counts per step: launches, syncs, ...
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)  # e.g. "syncs" -> ("train.py:41", ...)
    baseline: Baseline | None = None
    trial: Trial | None = None  # what `mfu-doctor try` measured; None: nothing was tried
    problems: tuple[str, ...] = ()  # what was wrong with the file
    cautions: tuple[str, ...] = ()  # `caveats` has all of them, in order

    def with_status(self, status: str) -> tuple[Diagnosis, ...]:
        """Diagnoses of one status, in report order (failed ones ranked by what they save on average)."""
        return tuple(d for d in self.diagnoses if d.status == status and not d.caution)

    @property
    def failed(self) -> tuple[Diagnosis, ...]:
        """Findings that are not folded under another, best first."""
        return tuple(d for d in self.with_status(FAILED) if d.explained_by is None)

    @property
    def step_s(self) -> float:
        """The step that savings are parts of, in seconds: the stated one, which the profiler need not have slowed."""
        return self.step_time_s.stated if self.step_time_s is not None else self.breakdown.step_s

    @property
    def passed(self) -> tuple[Diagnosis, ...]:
        """Rules that looked and found nothing."""
        return self.with_status(PASSED)

    @property
    def not_measured(self) -> tuple[Diagnosis, ...]:
        """Rules that could not judge, each with its reason."""
        return self.with_status(NOT_MEASURED)

    @property
    def withheld(self) -> tuple[Diagnosis, ...]:
        """Advice that would save (almost) nothing here, each with its number."""
        return self.with_status(WITHHELD)

    @property
    def unsure(self) -> tuple[Diagnosis, ...]:
        """Those of them that may save enough: only the low end of their saving is too little."""
        least = WORTH_SHARE * self.step_s
        return tuple(d for d in self.withheld if d.saving is not None and d.saving.high >= least > d.saving.low)

    @property
    def forward_only(self) -> Diagnosis | None:
        """What says that nothing runs backward, if that was found; its summary begins with what it calls the run."""
        found = self.diagnosis("forward-only")
        return found if found is not None and found.status == FAILED else None

    def diagnosis(self, rule: str) -> Diagnosis | None:
        """What the rule of this name said, or None if it was not run."""
        return next((d for d in self.diagnoses if d.rule == rule), None)

    def metrics(self) -> dict[str, float]:
        """Flat scalars for W&B, TensorBoard or MLflow; unknown values are left out."""
        out: dict[str, float | None] = {
            "mfu_doctor/mfu": self.mfu.value,
            "mfu_doctor/hfu": self.mfu.hfu,
            "mfu_doctor/step_time_s": self.step_time_s.stated if self.step_time_s else None,
        }
        if self.breakdown.step_s:
            out |= {f"mfu_doctor/share/{name}": self.breakdown.share(name) for name in BUCKETS}
        out |= {f"mfu_doctor/saving_s/{d.rule}": d.saving.mid for d in self.failed if d.saving}
        return {name: float(value) for name, value in out.items() if value is not None}
