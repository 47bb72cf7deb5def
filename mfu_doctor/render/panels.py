"""The sections of the terminal report, each a function of the report that returns blocks of lines.

Their order is fixed: number, where, fix, passed, not measured, caution, next command. People learn where to look once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfu_doctor.render import numbers, wording
from mfu_doctor.render.screen import Block, Line, Span, line
from mfu_doctor.render.text import cells, pad, shorten, wrap
from mfu_doctor.report import Diagnosis, Report

INDENT = "  "
LABEL = 14  # columns of the labels "MFU 31.4 %", "step 412 ms"
NAME = 20  # columns of a rule's name
SAVES, AFTER = 12, 13  # columns of "saves/step" and "MFU then"
BAR = 26  # columns of the longest share bar
ENTRY = 26  # columns of a rule's name before its reason
SHORT_TRACE = 16  # columns below which a trace's name is not cut in favour of the device's
FIXES = 3  # fixes on the one screen; -v shows all
EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Look:
    """How the screen is: columns, block characters or ASCII, everything or one screen, and the trace as the user named it."""

    width: int = 80
    unicode: bool = False
    verbose: bool = False
    source: str | None = None


def header(report: Report, look: Look) -> Block:
    """Who says so, about which trace, on what device; the trace's name and the device give way last."""
    run, device = report.run, report.device
    name = device.name or ("CPU" if device.kind == "cpu" else "GPU")
    kind = f"{device.count} x {name}" if device.count > 1 else name
    rank = (
        f"rank {run.rank} of {run.world_size}" if run.world_size and run.world_size > 1 and run.rank is not None else ""
    )
    torch = f"torch {run.versions['torch'].split('+')[0]}" if "torch" in run.versions else ""
    steps = f"{numbers.count(run.steps)} step{'' if run.steps == 1 else 's'}"
    fixed = [f"{report.tool} {report.version}".strip(), steps, rank, torch]
    if sum(cells(part) + 3 for part in [*fixed, run.trace, kind] if part) - 3 > look.width:
        fixed[3] = ""
    room = look.width - sum(cells(part) + 3 for part in fixed if part) - 3
    kind = shorten(kind, max(room // 2, room - min(cells(run.trace), SHORT_TRACE)))
    trace = shorten(run.trace, max(room - cells(kind), 8), middle=True)
    text = "   ".join(part for part in (fixed[0], trace, steps, kind, rank, fixed[3]) if part)
    return Block((line(shorten(text, look.width), "quiet"),))


def _labelled(rows: Sequence[tuple[str, list[str]]]) -> list[Line]:
    """Rows of a label and one or more lines beside it, all starting in one column."""
    column = max([LABEL, *(len(label) + 2 for label, _ in rows)])
    out: list[Line] = []
    for label, texts in rows:
        out.append((Span(INDENT), Span(label.ljust(column), "head"), Span(texts[0] if texts else "")))
        out += [(Span(INDENT + " " * column), Span(text)) for text in texts[1:]]
    return out


def number(report: Report, look: Look) -> Block:
    """MFU with its denominator and numerator, the step, the other readings, the change since the baseline."""
    label, text = wording.headline(report)
    step_label, step_text = wording.step_time(report)
    room = look.width - len(INDENT) - max(LABEL, len(label) + 2, len(step_label) + 2)
    base, others = wording.basis(report), ", ".join(wording.other_figures(report))
    if report.mfu.value is None:
        # Both ends of a long reason are kept, because the flag that helps stands at its end.
        head = wrap(text if look.verbose else shorten(text, 3 * room - 30, middle=True), room)
        base, others = "", base
    else:
        head = wrap(text, room, lines=None if look.verbose else 1)
    rows = [(label, head + ([shorten(base, room)] if base else [])), (step_label, [shorten(step_text, room)])]
    if others:
        rows.append(("also", [shorten(others, room)]))
    change = wording.baseline(report)
    if change and report.baseline:
        against = shorten(report.baseline.trace, max(room - len(change) - 3, 8), middle=True)
        rows.append(("baseline", [f"{change} ({against})"]))
    return Block(tuple(_labelled(rows)))


def _bar(share: float, look: Look) -> str:
    """A bar for a share of the largest bucket; whole characters in ASCII, eighths in unicode."""
    if look.unicode:
        whole, part = divmod(round(share * BAR * 8), 8)
        return "█" * whole + (EIGHTHS[part] if part else "")
    return "#" * max(round(share * BAR), 1 if share > 0 else 0)


def where(report: Report, look: Look) -> Block:
    """The exclusive split of the step with shares that sum to 100.0, and what idle consists of."""
    rows = wording.buckets(report, empty=look.verbose)
    if not rows:
        return Block(
            (line(INDENT + "Where a step goes: not measured, the trace holds no device work", "head"),), gap=True
        )
    scale, unit = numbers.table_unit(report.breakdown.step_s)
    texts = numbers.table_column([row.seconds / scale for row in rows])
    title = "Where a step goes"
    step = report.step_time_s
    if step and abs(report.breakdown.step_s - step.median) > 0.01 * step.median:
        title += f" (profiled: {numbers.duration(report.breakdown.step_s)})"
    head = f"{INDENT}{title}".ljust(len(INDENT) + 15 + BAR) + unit.rjust(7) + "share".rjust(8)
    lines: list[Line] = [line(head, "head")]
    largest = max(row.seconds for row in rows) or 1.0
    for row, text in zip(rows, texts, strict=True):
        bar = Span(_bar(row.seconds / largest, look).ljust(BAR), "bar")
        tail = f"{text:>7}{row.share:>8}" + (f"  {row.note}" if row.note else "")
        lines.append((Span(INDENT + row.label.ljust(15)), bar, Span(tail)))
    causes = [f"{name} {numbers.duration(value, 2)}" for name, value in wording.idle_causes(report)]
    if causes:
        text = "idle by cause: " + ", ".join(causes)
        room = look.width - len(INDENT) - 15
        lines += [
            line(" " * (len(INDENT) + 15) + t, "quiet") for t in wrap(text, room, lines=None if look.verbose else 1)
        ]
    return Block(tuple(lines), gap=True)


def _columns(left: str, saves: str, after: str, look: Look) -> str:
    """A row of the fix table: text on the left, saving and MFU in their columns on the right."""
    room = look.width - SAVES - AFTER
    return pad(shorten(left, room), room) + saves.rjust(SAVES) + after.rjust(AFTER)


def _fix_rows(fix: str, look: Look, most: int) -> list[str]:
    """The pasteable lines; when they must be cut, the cut is visible."""
    rows = fix.splitlines()
    room = look.width - 6
    if look.verbose:
        return rows
    if len(rows) == 1:
        return wrap(rows[0], room, lines=most)
    return [shorten(row, room) for row in rows[: most - 1]] + [
        shorten(rows[most - 1] + (" ..." if len(rows) > most else ""), room)
    ]


def _finding(index: int, found: Diagnosis, look: Look) -> Block:
    """One fix: name, what is wrong, what it saves; the line to paste; why."""
    start = f"{INDENT}{index} {found.rule}"
    beside = look.width - SAVES - AFTER - len(INDENT) - 2 - NAME
    short = len(found.rule) < NAME and cells(found.summary) <= beside
    left = pad(start, len(INDENT) + 2 + NAME) + found.summary if short else start
    rows: list[Line] = [line(_columns(left, wording.saving(found), wording.mfu_after(found), look), "number")]
    room = look.width - 6
    if not short and found.summary:
        rows += [line(" " * 6 + t) for t in wrap(found.summary, room, lines=None if look.verbose else 1)]
    most = 3 - len(rows)
    rows += [line(" " * 6 + row, "code") for row in _fix_rows(found.fix or "", look, max(most, 1))]
    note = wording.remarks(found)
    extra: list[tuple[Line, ...]] = []
    if note:
        extra.append(tuple(line(" " * 6 + t, "quiet") for t in wrap(note, room, lines=None if look.verbose else 2)))
    if look.verbose:
        extra += [(line(" " * 8 + t, "quiet"),) for t in evidence(found)]
    return Block(tuple(rows), tuple(extra), urgency=2, hint=False)


def evidence(found: Diagnosis) -> list[str]:
    """The numbers that a finding rests on, and how the advice is meant."""
    rows = [
        f"{e.name}: {numbers.measure(e.value, e.unit)}" + (f" at {e.place}" if e.place else "") for e in found.evidence
    ]
    facts = (("confidence", found.confidence), ("effort", found.effort), ("risk", found.risk), ("at", found.place))
    tags = ", ".join(f"{name} {value}" for name, value in facts if value)
    return [*rows, f"{found.code}: {tags}" if tags else found.code]


def fixes(report: Report, look: Look) -> list[Block]:
    """Ranked fixes with their replayed savings, what they give together, and advice that would not pay here."""
    found = report.failed
    if not found:
        text = wording.nothing_found(report)
        head = [line(INDENT + t, "head" if i == 0 else "") for i, t in enumerate(wrap(text, look.width - 2))]
        return [Block(tuple(head), gap=True, hint=False), *_withheld(report, look)]
    error = wording.replay_error(report)
    title = f"{INDENT}Fix first" + (f" ({error})" if error else "")
    blocks = [Block((line(_columns(title, "saves/step", "MFU then", look), "head"),), gap=True)]
    most = len(found) if look.verbose else FIXES
    blocks += [_finding(i, f, look) for i, f in enumerate(found[:most], 1)]
    if len(found) > most:
        names = ", ".join(f.rule for f in found[most:])
        text = shorten(f"{INDENT}and {len(found) - most} more: {names}", look.width - 12) + "  (-v: all)"
        blocks.append(Block((line(text),)))
    plan = wording.together(report)
    if plan:
        blocks.append(Block((line(_columns(INDENT + "Together (not the sum)", *plan, look), "head"),)))
    if look.verbose:
        blocks.append(Block(tuple(line(INDENT * 2 + t) for t in plan_rows(report))))
    return [*blocks, *_withheld(report, look)]


def plan_rows(report: Report) -> list[str]:
    """The step after each fix and all before it, and where the plan stops."""
    rows = [
        f"after {s.rule}: {numbers.duration(s.step_s, 2)} a step"
        + (f", MFU {numbers.significant(s.mfu * 100, 2)} %" if s.mfu is not None else "")
        for s in report.plan.steps
    ]
    if report.plan.roofline_s is not None:
        rows.append(f"roofline of the step: {numbers.duration(report.plan.roofline_s, 2)}")
    return rows + ([report.plan.stop] if report.plan.stop else [])


def _entry(name: str, text: str, look: Look) -> tuple[Line, ...]:
    """A rule's name and a sentence beside it."""
    rows = wrap(text, look.width - 4 - ENTRY, lines=None if look.verbose else 2)
    if look.verbose and cells(name) >= ENTRY:
        return (line(" " * 4 + name), *(line(" " * (4 + ENTRY) + row) for row in rows))
    label = pad(shorten(name, ENTRY - 1), ENTRY)
    return tuple(line(" " * 4 + (label if i == 0 else " " * ENTRY) + row) for i, row in enumerate(rows or [""]))


def _withheld(report: Report, look: Look) -> list[Block]:
    """Advice that would save nothing here, with its number."""
    held = report.withheld
    if not held:
        return []
    entries = tuple(_entry(d.rule, d.reason or wording.saving(d), look) for d in held)
    return [Block((line(f"{INDENT}Not worth it here {len(held)}", "head"),), entries, urgency=3)]


def passed(report: Report, look: Look) -> Block:
    """Rules that looked and found nothing."""
    rules = [d.rule for d in report.passed]
    head = f"{INDENT}Passed {len(rules)}"
    if not rules:
        return Block((line(head, "head"),), gap=True)
    text = f"{head}: {', '.join(rules)}"
    if look.verbose:
        return Block(
            tuple(line(t) for t in [f"{head}:", *(f"{INDENT * 2}{t}" for t in wrap(text.split(": ", 1)[1], 70))]),
            gap=True,
        )
    if cells(text) <= look.width:
        return Block((line(text),), gap=True)
    cut = text[: look.width - 16]
    return Block(
        (line(cut[: cut.rindex(", ")] + ", ...  (-v: all)" if ", " in cut else shorten(text, look.width)),), gap=True
    )


def unmeasured(report: Report, look: Look) -> list[Block]:
    """Rules that could not judge, each with its reason, rules with one reason together."""
    groups = wording.unmeasured(report)
    if not groups:
        return []
    number_of = sum(len(rules) for rules, _ in groups)
    entries = []
    for rules, reason in groups:
        if look.verbose:
            entries += [_entry(rule, reason, look) for rule in rules]
            continue
        more = f" +{len(rules) - 1}" if len(rules) > 1 else ""
        entries.append(_entry(shorten(rules[0], ENTRY - 1 - len(more)) + more, reason, look))
    return [Block((line(f"{INDENT}Not measured {number_of}", "head"),), tuple(entries), urgency=1)]


def caution(report: Report, look: Look) -> list[Block]:
    """What to know before believing the numbers; the first one is always shown."""
    texts = wording.cautions(report)
    if not texts:
        return []
    room = look.width - len(INDENT) - LABEL
    rows = [wrap(text, room, lines=None if look.verbose else 2) or [""] for text in texts]
    label = "Caution" if len(texts) == 1 else f"Caution {len(texts)}"
    head = tuple(_labelled([(label, rows[0])]))
    entries = tuple(tuple(line(" " * (len(INDENT) + LABEL) + t) for t in row) for row in rows[1:])
    return [Block(head, entries, gap=True, urgency=0, hint=False)]


def following(report: Report, look: Look) -> Block:
    """What to type next."""
    rows: list[Line] = []
    for command, note in wording.commands(report, look.source):
        text = f"{INDENT}{command}"
        room = look.width - len(text) - 4
        rows.append(line(f"{text}    {note}" if note and len(note) <= room else text, "quiet"))
    return Block(tuple(rows), gap=True)
