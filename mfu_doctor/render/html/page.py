"""What the page says, section by section: the values for the templates, each computed from the report once.

Templates do not calculate. They only decide whether there is something to show. Their sentences come from `wording`.
"""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup
from msgspec import Struct

from mfu_doctor import quantities
from mfu_doctor.render.html.pictures.split import pieces
from mfu_doctor.render.html.svg import CAUSE_NAMES, swatch, typeset
from mfu_doctor.render.words import labels, wording
from mfu_doctor.render.words.text import EM_DASH
from mfu_doctor.result.bottleneck import named
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import BUCKETS, IDLE_CAUSES, Breakdown, StepRow

_KINDS_IN_WORDS = {
    "compute": "compute: matmul, attention, convolution",
    "compute-2": "compute: other kernels",
    "communication": "communication",
    "memory_copy": "memory copy",
    "data_loading": "data loading",
    "host": "CPU: operators",
    "host-forward": "CPU: forward",
    "host-backward": "CPU: backward",
    "host-optimizer": "CPU: optimizer",
    "host-wait": "CPU: waiting for the device",
    "idle": "device idle",
}


class LegendEntry(Struct, frozen=True):
    """A colour or pattern and its meaning."""

    swatch: Markup
    name: str


class SplitLine(Struct, frozen=True):
    """One row of the step time breakdown: a bucket, or (indented) a cause of idle time."""

    swatch: Markup
    name: str
    time: str
    share: str
    low: str
    high: str
    note: str = ""
    is_cause: bool = False
    is_empty: bool = False


def legend(kinds: Iterable[str], scope: str) -> tuple[LegendEntry, ...]:
    """The kinds that a picture uses, each name once."""
    by_name = {_kind_name(kind): kind for kind in kinds}
    order = [*_KINDS_IN_WORDS.values(), *(_kind_name(cause) for cause in IDLE_CAUSES)]
    return tuple(LegendEntry(swatch(by_name[name], scope), name) for name in order if name in by_name)


def split_lines(report: Report, scope: str) -> tuple[SplitLine, ...]:
    """Buckets of the mean step in fixed order, then the causes of idle time, with the range over the analysed steps."""
    shares = {row.label: row for row in wording.buckets(report, empty=True)}
    lines = []
    for bucket in BUCKETS:
        row = shares[wording.BUCKET_LABELS[bucket]]
        low, high = _range(report.steps, bucket)
        mark = swatch("launch" if bucket == "idle" else bucket, scope)  # the pattern of "other" is empty
        lines.append(
            SplitLine(
                mark,
                row.label,
                quantities.duration(row.seconds),
                row.share,
                low,
                high,
                row.note,
                is_empty=not row.seconds,
            )
        )
    for kind, seconds, _ in pieces(report.breakdown):
        if kind in IDLE_CAUSES:
            low, high = _range(report.steps, kind)
            share = quantities.percent(seconds / report.breakdown.step_s)
            name, time = CAUSE_NAMES[kind], quantities.duration(seconds)
            lines.append(SplitLine(swatch(kind, scope), name, time, share, low, high, is_cause=True))
    return tuple(lines)


def method_rows(report: Report) -> tuple[tuple[str, str], ...]:
    """How the numbers were obtained, as names and values."""
    run, mfu, replay = report.run, report.mfu, report.replay
    source = labels.STEPS_FOUND_BY.get(run.steps_source, run.steps_source)
    steps = f"{run.steps} analysed; step boundaries from {source}"
    rows = [
        ("trace", run.trace),
        ("recorded by", "mfu-doctor" if run.captured else "another profiler"),
        ("profile() at", run.site),
        ("rank", None if run.rank is None else f"{run.rank} of {run.world_size or EM_DASH}"),
        ("steps", steps),
        ("schedule", _schedule(report)),
        (
            "model FLOPs",
            None if mfu.model_flops is None else f"{quantities.flop_count(mfu.model_flops)} per step ({mfu.method})",
        ),
        ("recomputed", None if not mfu.recompute_flops else f"{quantities.flop_count(mfu.recompute_flops)} per step"),
        ("FLOPs known", None if mfu.coverage is None else f"for {quantities.percent(mfu.coverage)} of matmul time"),
        ("peak", report.device.peak_source),
        ("bandwidth", None if not report.device.bandwidth_bytes_s else _bandwidth(report.device.bandwidth_bytes_s)),
        ("profiler", _inflation(report)),
        (
            "replay",
            None
            if replay.error is None
            else f"error {quantities.signed_percent(replay.error)} (simulated unchanged step against the measured step)",
        ),
        *((name, version) for name, version in sorted(run.versions.items())),
        *((name, str(value)) for name, value in sorted(run.settings.items()) if value is not None),
        ("report", ", ".join(part for part in (f"schema {report.schema}", moment(report.created)) if part)),
        ("mfu-doctor", report.version),
    ]
    return tuple((name, value) for name, value in rows if value)


def baseline_rows(report: Report) -> tuple[tuple[str, str, str, str], ...]:
    """Rows of name, baseline, this run, change; empty without a baseline."""
    base, step = report.baseline, report.step_time_s
    if base is None:
        return ()
    rows = []
    if step is not None and base.step_time_s.stated:
        before, now = base.step_time_s.stated, step.stated
        change = quantities.signed_percent(now / before - 1)
        rows.append(("step time", _spread(before, base.step_time_s.spread), _spread(now, step.spread), change))
    if base.mfu is not None and report.mfu.value is not None:
        change = quantities.points(report.mfu.value - base.mfu)
        rows.append(("MFU", quantities.percent(base.mfu), quantities.percent(report.mfu.value), change))
    if base.breakdown.step_s and report.breakdown.step_s:
        rows += [_share_row(bucket, base.breakdown, report.breakdown) for bucket in BUCKETS]
    return tuple(rows)


def moment(created: str) -> str:
    """A UTC time of ISO 8601 in an easier form."""
    return f"{created.replace('T', ' ').removesuffix('Z').removesuffix('+00:00')} UTC" if created else ""


def link(source: str | None) -> str | None:
    """The address if it is plain https; None for anything else."""
    return source if source and source.startswith("https://") and not set(source) & set(" \"'<>\\") else None


def short_words(text: str) -> Markup:
    """Escaped text for templates, with each number and its unit on one line."""
    return Markup.escape(typeset(text))


def _kind_name(kind: str) -> str:
    if kind in CAUSE_NAMES:
        return f"idle, {named(kind)}"
    if kind in ("matmul", "attention", "convolution"):
        return _KINDS_IN_WORDS["compute"]
    return _KINDS_IN_WORDS.get(kind, _KINDS_IN_WORDS["compute-2"])


def _range(steps: tuple[StepRow, ...], owner: str) -> tuple[str, str]:
    """Least and most of a bucket or cause over the analysed steps."""
    steady = [row.split for row in steps if row.steady] or [row.split for row in steps]
    is_cause = owner in IDLE_CAUSES
    values = [s.idle_causes.get(owner, 0.0) if is_cause else float(getattr(s, owner)) for s in steady]
    return (quantities.duration(min(values)), quantities.duration(max(values))) if values else (EM_DASH, EM_DASH)


def _schedule(report: Report) -> str | None:
    run = report.run
    named = (("skipped", run.skip), ("timed", run.timed), ("warm-up", run.warmup), ("recorded", run.active))
    known = [f"{count} {name}" for name, count in named if count is not None]
    return ", ".join(known) or None


def _bandwidth(bytes_per_second: float) -> str:
    return f"{quantities.bandwidth(bytes_per_second, 4)} of device memory"


def _inflation(report: Report) -> str | None:
    step = report.step_time_s
    if step is None or not step.profiled or step.source != "timed":
        return None
    change = quantities.signed_percent(step.profiled / step.stated - 1)
    return f"step with the profiler: {change}; all shares are of this step"


def _spread(step: float, spread: float) -> str:
    return quantities.duration(step) + (f" \u00b1 {quantities.time_spread(spread, step)}" if spread else "")


def _share_row(bucket: str, before: Breakdown, now: Breakdown) -> tuple[str, str, str, str]:
    first, last = before.share(bucket), now.share(bucket)
    name = wording.BUCKET_LABELS[bucket]
    return name, quantities.percent(first), quantities.percent(last), quantities.points(last - first)
