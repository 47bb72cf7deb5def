"""BEFORE and AFTER: what changed by bucket, kernel and setting, whether it is noise, and whether the prediction was right.

The gain that the report BEFORE predicted for the applied fixes is shown beside the measured gain, with the error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from mfu_doctor.analysis.summary.tables import TOP
from mfu_doctor.comparison.made import made_smaller, mended
from mfu_doctor.comparison.prediction import Prediction, applied_fixes, predict
from mfu_doctor.comparison.samples import (
    COUNT,
    DEVICE,
    MODEL_FLOPS,
    TIMING,
    Sample,
    beyond_noise,
    bucket_sample,
    joint_spread,
    require_alike,
    step_sample,
)
from mfu_doctor.json_text import json_bytes
from mfu_doctor.result.job_as_run import JOB_STEP, SPREAD, WAIT
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import BUCKETS, Breakdown, KernelRow
from mfu_doctor.result.trial import Tried

_OF_JOBS = {WAIT: "waiting for ranks", SPREAD: "slowest rank over mean"}
SCHEMA = 1
COMPARED_KEYS = (DEVICE, COUNT, MODEL_FLOPS, TIMING)  # a different torch or dtype is a change to show, not a refusal


class Change(Struct, frozen=True, kw_only=True):
    """One quantity before and after; seconds per step unless the field that holds it says otherwise.

    Attributes:
        before: None if the run before does not know it; of a kernel: where it is not in that run's list of the longest.
        after: None likewise.
        spread: joint median absolute deviation; None if it is unknown.
        real: whether the change is beyond the noise; None if the spread is unknown.
    """

    name: str
    before: float | None
    after: float | None
    spread: float | None = None
    real: bool | None = None

    @property
    def delta(self) -> float | None:
        """After minus before; None if one of them is not known."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def relative(self) -> float | None:
        """Delta over before, None if there is none of either."""
        return self.delta / self.before if self.before and self.delta is not None else None


class Setting(Struct, frozen=True, kw_only=True):
    """A setting, version or count that differs; None if one side does not know it."""

    name: str
    before: str | None
    after: str | None


class Comparison(Struct, frozen=True, kw_only=True):
    """Everything that `compare` says; every format is a function of it.

    Attributes:
        before_verdict: what limits the run before, in one sentence.
        after_verdict: likewise.
        step: step time.
        mfu: MFU as fractions.
        buckets: the exclusive split, then the causes of idle time as "idle: launch".
        kernels: by the size of the change, largest first; seconds of device time per step. A kernel that is only in one run's
            list of the longest is listed only if it must have changed; by how much is unknown.
        counts: structural counts per step that differ.
        settings: settings and versions that differ.
        places: what has new source lines ("syncs" -> "train.py:41").
        fixed: rules whose problem of the run before is gone, or so much smaller that it is no longer worth a fix.
        appeared: rules that find something now and did not before.
        tried: what trying the fixes that were applied showed before, if they were.
    """

    schema: int = SCHEMA
    before: str
    after: str
    before_verdict: str | None = None
    after_verdict: str | None = None
    step: Change
    mfu: Change | None = None
    buckets: tuple[Change, ...] = ()
    kernels: tuple[Change, ...] = ()
    counts: tuple[Change, ...] = ()
    settings: tuple[Setting, ...] = ()
    places: tuple[tuple[str, tuple[str, ...]], ...] = ()
    fixed: tuple[str, ...] = ()
    appeared: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()
    prediction: Prediction
    allowed: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """The comparison as UTF-8 JSON in SI units."""
        return json_bytes(self, indent=1)


def compare(
    before: Report, after: Report, *, allow_different: Collection[str] = (), fixes: Sequence[str] = ()
) -> Comparison:
    """Compare two runs of the same work on the same device.

    Args:
        before: the run whose predictions are checked.
        after: the run with the change.
        allow_different: keys (device, count, model-flops, timing) in which they may differ.
        fixes: rules whose fix was applied; without any, those whose finding is gone, else those whose problem is smaller.

    Raises:
        DoctorError: the runs are unlike (the message names the key), have no steps, or `fixes` names an unknown finding.
    """
    old, new = step_sample([before]), step_sample([after])  # what cannot be judged is refused before what differs
    require_alike([before, after], allowed=allow_different, keys=COMPARED_KEYS)
    fixed, appeared = mended(before, after), _appeared(before, after)
    applied = applied_fixes(before, fixes) or fixed or made_smaller(before, after)
    step = _change("step", old, new)
    return Comparison(
        before=before.run.trace,
        after=after.run.trace,
        before_verdict=_sentence(before),
        after_verdict=_sentence(after),
        step=step,
        mfu=_mfu(before, after, old, new),
        buckets=_buckets(before, after),
        kernels=_kernels(before.kernels, after.kernels),
        counts=_counts(before.structure, after.structure),
        settings=_settings(before, after),
        places=_new_places(before, after),
        fixed=fixed,
        appeared=appeared,
        tried=tuple(one for one in before.trial.tried if one.rule in applied) if before.trial is not None else (),
        prediction=predict(before, old, new, applied),
        allowed=tuple(allow_different),
        cautions=tuple(dict.fromkeys(caveat.text for report in (before, after) for caveat in report.caveats)),
    )


def _sentence(report: Report) -> str | None:
    return report.verdict.sentence if report.verdict is not None else None


def _change(name: str, old: Sample, new: Sample) -> Change:
    spread = joint_spread(old, new)
    real = beyond_noise(new.value - old.value, spread)
    return Change(name=name, before=old.value, after=new.value, spread=spread, real=real)


def _mfu(before: Report, after: Report, old: Sample, new: Sample) -> Change | None:
    """MFU moves with the step time, so it is as sure as the step time is."""
    if before.mfu.value is None or after.mfu.value is None:
        return None
    real = beyond_noise(new.value - old.value, joint_spread(old, new))
    return Change(name="MFU", before=before.mfu.value, after=after.mfu.value, real=real)


def _buckets(before: Report, after: Report) -> tuple[Change, ...]:
    if not before.breakdown.step_s or not after.breakdown.step_s:
        return ()
    causes = dict.fromkeys((*before.breakdown.idle_causes, *after.breakdown.idle_causes))
    readers = {name: _bucket(name) for name in BUCKETS} | {f"idle: {cause}": _cause(cause) for cause in causes}
    split = (
        _change(name, bucket_sample([before], read), bucket_sample([after], read)) for name, read in readers.items()
    )
    return (*split, *_between_ranks(before, after))


def _between_ranks(before: Report, after: Report) -> tuple[Change, ...]:
    """What only jobs have, in seconds of their steps."""
    rows = []
    for measure, name in _OF_JOBS.items():
        old, new = (
            None if (share := report.structure.get(measure)) is None else share * report.breakdown.step_s
            for report in (before, after)
        )
        rows += [Change(name=name, before=old, after=new)] if (old, new) != (None, None) else []
    return tuple(rows)


def _bucket(name: str) -> Callable[[Breakdown], float]:
    return lambda split: float(getattr(split, name))


def _cause(name: str) -> Callable[[Breakdown], float]:
    return lambda split: split.idle_causes.get(name, 0.0)


def _kernels(before: Sequence[KernelRow], after: Sequence[KernelRow]) -> tuple[Change, ...]:
    """Device time by kernel name, by the least that each must have changed.

    A report lists its longest kernels: one that is missing there took at most as long as the shortest that is listed, and where
    the list is not full, no time at all.
    """
    old, new = _by_name(before), _by_name(after)
    least_old, least_new = _cut(before, old), _cut(after, new)
    moved: list[tuple[float, Change]] = []
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name, None if least_old else 0.0), new.get(name, None if least_new else 0.0)
        change = Change(name=name, before=was, after=now)
        bound = least_new if now is None else least_old
        least = abs(change.delta) if change.delta is not None else (now or was or 0.0) - bound
        if least > 0:
            moved.append((least, change))
    return tuple(change for _, change in sorted(moved, key=lambda row: -row[0]))


def _cut(rows: Sequence[KernelRow], by_name: Mapping[str, float]) -> float:
    """Seconds of the shortest kernel of a list that may have left some out; 0 of a list that has all."""
    return min(by_name.values()) if len(rows) >= TOP else 0.0


def _by_name(rows: Sequence[KernelRow]) -> dict[str, float]:
    out: dict[str, float] = {}
    for row in rows:
        out[row.name] = out.get(row.name, 0.0) + row.seconds
    return out


def _counts(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[Change, ...]:
    names = [name for name in dict.fromkeys((*before, *after)) if name not in (*_OF_JOBS, JOB_STEP)]
    rows = [Change(name=name, before=before.get(name), after=after.get(name), real=True) for name in names]
    return tuple(row for row in rows if row.before != row.after)


def _settings(before: Report, after: Report) -> tuple[Setting, ...]:
    """Settings, versions and other properties that differ and can explain a change."""
    old, new = _described(before), _described(after)
    names = dict.fromkeys((*old, *new))
    return tuple(
        Setting(name=name, before=old.get(name), after=new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    )


def _described(report: Report) -> dict[str, str]:
    found: dict[str, object] = {**report.run.settings, **report.run.versions}
    found |= {"device": report.device.name, "dtype": report.device.dtype, "world size": report.run.world_size}
    return {name: str(value) for name, value in found.items() if value is not None}


def _new_places(before: Report, after: Report) -> tuple[tuple[str, tuple[str, ...]], ...]:
    out = []
    for name, places in after.places.items():
        new = tuple(place for place in places if place not in before.places.get(name, ()))
        if new and name in before.structure:
            out.append((name, new))
    return tuple(out)


def _appeared(before: Report, after: Report) -> tuple[str, ...]:
    old = [d.rule for d in before.failed]
    return tuple(d.rule for d in after.failed if d.rule not in old and before.diagnosis(d.rule) is not None)
