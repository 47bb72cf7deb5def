"""The pages to commit: the clinic's board, and everything on one page."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from on_gpu_parts.job import ROOT

sys.path.insert(0, str(ROOT / "examples" / "clinic"))

from boards import spread_of

Fact = dict[str, Any]

# Facts that fill lines and say nothing on a page.
_NOT_SHOWN = ("part", "fact")
_LONGEST = 400  # characters of one line of the page


@dataclass(frozen=True)
class Pair:
    """A patient with its fault and with its fix."""

    expects: str | None
    faulty: Fact
    mended: Fact

    @property
    def found(self) -> list[str]:
        """Rules found on the faulty side, the first one first."""
        return [found["rule"] for found in self.faulty["findings"]]

    @property
    def left(self) -> list[str]:
        """Rules found on the mended side."""
        return [found["rule"] for found in self.mended["findings"]]

    @property
    def predicted_s(self) -> float | None:
        """The step that the report promises (mid), by the share of its own step; None without the planted fault."""
        found = next((found for found in self.faulty["findings"] if found["rule"] == self.expects), None)
        if found is None or not found["saving_s"]:
            return None
        return float(self.faulty["step_s"] * (1.0 - found["saving_s"][1] / self.faulty["report_step_s"]))

    @property
    def error(self) -> float | None:
        """Relative error of the predicted step against the measured one."""
        return None if self.predicted_s is None else self.predicted_s / self.mended["step_s"] - 1.0

    def row(self, name: str) -> str:
        """One line of the table."""
        before, after = (f"{1e3 * side['step_s']:.2f}" for side in (self.faulty, self.mended))
        if self.expects is None:
            said = f"found: {', '.join(sorted({*self.found, *self.left}))}" if self.found + self.left else "no finding"
            return f"| {name} | healthy control | {said} | {before} | | {after} | |"
        place = self.found.index(self.expects) + 1 if self.expects in self.found else None
        ranked = "not found" if place is None else f"{place} of {len(self.found)}"
        if self.predicted_s is None or self.error is None:
            return f"| {name} | {self.expects} | {ranked} | {before} | | {after} | |"
        return f"| {name} | {self.expects} | {ranked} | {before} | {1e3 * self.predicted_s:.2f} | {after} | {self.error:+.1%} |"


def board(facts: list[Fact], title: str) -> str:
    """The scoreboard of the patients: the last try of each, and why there is none."""
    last = {fact["fact"]: fact for fact in facts if fact["part"] == "clinic" and "expects" in fact}
    pairs = {name: Pair(f["expects"], f["faulty"], f["mended"]) for name, f in last.items() if _is_whole(f)}
    without = {name: fact.get("absent") or fact.get("failed") or "no report" for name, fact in last.items()}
    head = [
        f"# Clinic: {title}",
        "",
        f"{_machine(facts)}. Times are medians in milliseconds a step, measured in turns and without a profiler.",
        "",
        "| patient | planted fault | ranked | step with fault | predicted | measured with fix | error |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    rows = [pair.row(name) for name, pair in pairs.items()]
    missing = [f"- not measured: {name}: {why}" for name, why in without.items() if name not in pairs]
    left = [
        f"- left after the fix: {n}: {', '.join(pair.left)}" for n, pair in pairs.items() if pair.expects and pair.left
    ]
    return "\n".join([*head, *rows, "", *_summary(list(pairs.values())), *left, *missing, ""])


def _summary(pairs: list[Pair]) -> list[str]:
    planted = [pair for pair in pairs if pair.expects is not None]
    controls = [pair for pair in pairs if pair.expects is None]
    errors = sorted(abs(pair.error) for pair in planted if pair.error is not None)
    sides = [side for pair in pairs for side in (pair.faulty, pair.mended)]
    own = sorted(side["report_step_s"] / side["step_s"] for side in sides)
    lines = []
    if planted:
        first = sum(pair.found[:1] == [pair.expects] for pair in planted)
        lines.append(
            f"- planted fault found: {sum(pair.expects in pair.found for pair in planted)}, first: {first} of {len(planted)}"
        )
    if errors:
        lines.append(f"- |error| of the predicted step: {spread_of(errors)}")
    if controls:
        lines.append(
            f"- findings on healthy controls: {sum(len(p.found) + len(p.left) for p in controls)} in {2 * len(controls)} runs"
        )
        same = sorted(abs(pair.faulty["step_s"] / pair.mended["step_s"] - 1.0) for pair in controls)
        lines.append(f"- a control differs from itself: {spread_of(same)}")
    if own:
        lines.append(
            f"- the step of a report over the one measured without us: {median(own):.3f} ({own[0]:.3f} to {own[-1]:.3f})"
        )
    return lines


def page(facts: list[Fact], title: str) -> str:
    """Everything, part by part."""
    lines = [f"# {title}", "", f"Written on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {_machine(facts)}.", ""]
    for part in dict.fromkeys(fact["part"] for fact in facts):
        lines += [f"## {part}", ""]
        shown = [fact for fact in facts if fact["part"] == part and "expects" not in fact]  # patients are on the board
        lines += [f"- **{fact['fact']}**: {told(fact)}" for fact in shown]
        lines.append("")
    return "\n".join(lines)


def told(fact: Fact) -> str:
    """What a line knows, in one line; what is unknown is left out of the page and stands in the file."""
    return ", ".join(
        f"{name} {_short(value)}" for name, value in fact.items() if name not in _NOT_SHOWN and _says(value)
    )[:_LONGEST]


def _says(value: Any) -> bool:
    return value not in (None, [], {})


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_short(inner)}" for name, inner in value.items() if _says(inner)) + ")"
    return "[" + ", ".join(map(_short, value)) + "]" if isinstance(value, list) else str(value)


def _machine(facts: Iterable[Fact]) -> str:
    """The machine, by what its parts told last."""
    known = {key: fact[key] for fact in facts for key in ("device", "torch", "cuda", "python") if fact.get(key)}
    return ", ".join(
        [str(known.get("device", "no device")), *(f"{k} {known[k]}" for k in ("torch", "cuda", "python") if k in known)]
    )


def _is_whole(fact: Fact) -> bool:
    return all("findings" in fact.get(side, {}) for side in ("faulty", "mended"))
