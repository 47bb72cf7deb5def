"""The sections of the terminal report. Each is a function of the report that returns blocks of lines.

Their order is fixed: verdict and fixes (modules of their own), MFU, step time, what was checked, caution, next command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct, field

from mfu_doctor import quantities
from mfu_doctor.render.terminal.screen import ALL, Block, Line, Span, line
from mfu_doctor.render.words import caveats as caveat_words
from mfu_doctor.render.words import code_lines, columns, labels, whole_run, wording
from mfu_doctor.render.words import plan as plan_words
from mfu_doctor.render.words.computing import of_computing
from mfu_doctor.render.words.next_commands import Origin
from mfu_doctor.render.words.text import cells, pad, shorten, wrap
from mfu_doctor.result.bottleneck import meaning, named
from mfu_doctor.result.report import Report
from mfu_doctor.result.step import CodeLine

INDENT = "  "
LABEL = 14  # columns of the labels "MFU 31.4 %", "step 412 ms"
BAR = 26  # columns of the longest share bar
SHORT_BAR = 10  # columns of the longest bar of the whole run: lines of the program stand beside it
BESIDE_BAR = 54  # columns of its label, figures and note
PLACE_BESIDE = 36  # columns of time, share and rate beside a line of code
ENTRY = 26  # columns of a rule's name before its reason
SHORT_TRACE = 16  # columns of a trace's name that are kept even if the device's name is cut
_SUFFIX = re.compile(r"(\.pt)?(\.trace)?\.json(\.gz)?$")  # nearly every trace's name ends in this
EIGHTHS = " ▏▎▍▌▋▊▉"


class Look(Struct, frozen=True):
    """How the screen is.

    Attributes:
        width: columns.
        unicode: block characters instead of ASCII.
        verbose: everything instead of one screen.
        origin: where the report comes from.
        fixes: fixes to show in full on the first screen.
        whole: sentences take the lines that they need; otherwise the first screen cuts them.
        tight: not even one fix fits so. 1: cautions and the plan are cut sooner; 2: what fixes are about too; 3: also the
            first sentence.
    """

    width: int = 80
    unicode: bool = False
    verbose: bool = False
    origin: Origin = field(default_factory=Origin)
    fixes: int = 3
    whole: bool = True
    tight: int = 0

    def at_most(self, lines: int) -> int | None:
        """Lines that a sentence may take; None: as many as it needs."""
        return None if self.verbose or self.whole else lines


def header(report: Report, look: Look) -> Block:
    """Version, trace, number of steps and device. The names of the trace and the device are cut last."""
    run, device = report.run, report.device
    name = device.name or ("CPU" if device.kind == "cpu" else "GPU")
    rank = labels.rank(report)
    kind = f"{device.count} x {name}" if device.count > 1 and not rank else name
    torch = f"torch {run.versions['torch'].split('+')[0]}" if "torch" in run.versions else ""
    steps = wording.steps(report)
    fixed = [f"{report.tool} {report.version}".strip(), steps, rank, torch]
    if sum(cells(part) + 3 for part in [*fixed, run.trace, kind] if part) - 3 > look.width:
        fixed[3] = ""
    room = look.width - sum(cells(part) + 3 for part in fixed if part) - 3
    kind = shorten(kind, max(room // 2, room - min(cells(run.trace), SHORT_TRACE)))
    trace = shorten(_named(run.trace, room - cells(kind)), max(room - cells(kind), 8), middle=True)
    text = "   ".join(part for part in (fixed[0], trace, steps, kind, rank, fixed[3]) if part)
    return Block((line(shorten(text, look.width), "quiet"),))


def _named(trace: str, room: int) -> str:
    """A trace's name, without its usual ending if there is no room for it."""
    return trace if cells(trace) <= room else _SUFFIX.sub("", trace)


def labelled(rows: Sequence[tuple[str, list[str]]], column: int = LABEL) -> list[Line]:
    """Rows of a label and one or more lines beside it, all starting in one column."""
    out: list[Line] = []
    for label, texts in rows:
        out.append((Span(INDENT), Span(label.ljust(column), "head"), Span(texts[0] if texts else "")))
        out += [(Span(INDENT + " " * column), Span(text)) for text in texts[1:]]
    return out


def number(report: Report, look: Look) -> Block:
    """MFU with its peaks and its numerator, the step, the change since the baseline."""
    label, text = wording.headline(report)
    step_label, step_text = wording.step_time(report, brief=not look.verbose)
    room = look.width - len(INDENT) - max(LABEL, len(label) + 2, len(step_label) + 2)
    base = wrap(wording.basis(report), room, lines=look.at_most(1))
    change = wording.baseline(report) if report.baseline else None
    apart = report.mfu.value is None or change is not None  # who passed a baseline asked for that line first
    besides = [("also", base)] if base and apart else []
    if report.mfu.value is None:
        # Both ends of a long reason are kept, because the option that helps stands at its end.
        head = wrap(text if look.at_most(3) is None else shorten(text, 3 * room - 30, middle=True), room)
    else:
        head, short = (wrap(wording.headline(report, brief=brief)[1], room) for brief in (False, True))
        head = [*(head if look.verbose or len(head) <= len(short) else short), *(() if apart else base)]
    rows = [
        (label, head),
        (step_label, wrap(step_text, room, lines=look.at_most(2))),
    ]
    star = wording.footnote(report)
    if star:
        besides.append(("*", wrap(star.removeprefix("* "), room, lines=look.at_most(2))))
    if change and report.baseline:
        against = shorten(
            _named(report.baseline.trace, room - len(change) - 3), max(room - len(change) - 3, 8), middle=True
        )
        rows.append(("baseline", [shorten(f"{change} ({against})", room)]))
    column = max([LABEL, *(len(label) + 2 for label, _ in rows)])
    extra = tuple(tuple(labelled([row], column)) for row in besides)
    return Block(tuple(labelled(rows, column)), extra, gap=True, urgency=0, hint=False)


def _bar(share: float, longest: int, look: Look) -> str:
    """A bar for a share of the largest bucket; whole characters in ASCII, eighths in unicode."""
    if look.unicode:
        whole, part = divmod(round(share * longest * 8), 8)
        return "█" * whole + (EIGHTHS[part] if part else "")
    return "#" * max(round(share * longest), 1 if share > 0 else 0)


def whole(report: Report, look: Look) -> list[Block]:
    """The parts of the whole run, so that nobody mistakes a part of it for all; nothing for other traces."""
    rows = whole_run.rows(report, None if look.verbose else whole_run.MOST_ROWS)
    if not rows:
        return []
    sentence = whole_run.sentence(report)
    if sentence is not None and not look.verbose:
        told = wrap(sentence, look.width - len(INDENT), lines=look.at_most(1))
        return [Block(tuple(line(INDENT + row, "quiet") for row in told))]
    scale, unit = quantities.time_unit(max(row.seconds for row in rows))
    texts = columns.table_column([row.seconds / scale for row in rows])
    longest, column = min(SHORT_BAR, look.width - BESIDE_BAR), max(LABEL, *(len(row.label) for row in rows)) + 1
    title = f"Whole run ({whole_run.title(report)})"
    column = min(max(column, len(title) - longest), look.width - BESIDE_BAR)
    head = f"{INDENT}{title}".ljust(len(INDENT) + column + longest)
    lines: list[Line] = [line(head + unit.rjust(7) + "share".rjust(8), "head")]
    largest = max(row.seconds for row in rows)
    for row, text in zip(rows, texts, strict=True):
        bar = Span(_bar(row.seconds / largest, longest, look).ljust(longest), "bar")
        left = f"{INDENT}{row.label.ljust(column)}"
        tail = f"{text:>7}{row.share:>8}"
        note = _beside(row.note, look.width - cells(left) - longest - cells(tail) - 2)
        lines.append((Span(left), bar, Span(tail + (f"  {note}" if note else ""))))
    if look.verbose:
        lines.append(line(INDENT + whole_run.besides(report), "quiet"))
    entries = (tuple(lines[:2]), *((row,) for row in lines[2:]))
    return [Block((), entries, gap=True, urgency=2, hint=False)]


def _beside(note: str, room: int) -> str:
    """A line and its call; where both do not fit the line alone, because a name with a hole cannot be opened."""
    place = note.partition(", ")[0]
    return note if cells(note) <= room else shorten(place, room, middle=True)


def where(report: Report, look: Look) -> Block:
    """The parts of the step time with shares that sum to 100.0, and the causes of idle time."""
    rows = wording.buckets(report, empty=look.verbose)
    if not rows:
        return Block(
            (line(INDENT + "Step time breakdown: not available, because the trace has no kernels", "head"),), gap=True
        )
    scale, unit = quantities.time_unit(report.breakdown.step_s)
    texts = columns.table_column([row.seconds / scale for row in rows])
    title = "Step time breakdown"
    step = report.step_time_s
    if step and abs(report.breakdown.step_s - step.stated) > 0.01 * step.stated:
        title += f" (profiled: {quantities.duration(report.breakdown.step_s)})"
    longest = min(BAR, look.width - BESIDE_BAR)
    head = f"{INDENT}{title}".ljust(len(INDENT) + 15 + longest) + unit.rjust(7) + "share".rjust(8)
    lines: list[Line] = [line(head, "head")]
    largest = max(row.seconds for row in rows) or 1.0
    for row, text in zip(rows, texts, strict=True):
        bar = Span(_bar(row.seconds / largest, longest, look).ljust(longest), "bar")
        tail = f"{text:>7}{row.share:>8}" + (f"  {row.note}" if row.note else "")
        lines.append((Span(INDENT + row.label.ljust(15)), bar, Span(tail)))
    left = " " * (len(INDENT) + 15)
    computing = tuple(line(left + row, "quiet") for row in wrap(of_computing(report), look.width - len(left)))
    return Block((*lines, *_idle(report, look)), (computing,) if computing else (), gap=True, urgency=0, hint=False)


def code(report: Report, look: Look) -> list[Block]:
    """The lines of the user's code that take most of the step."""
    rows = code_lines.first_lines(report)
    if look.verbose or not rows:
        return []
    head = line(f"{INDENT}{code_lines.title(report)}", "head")
    entries = [line(f"{INDENT}{text}") for text in code_table(rows, look.width - len(INDENT))]
    return [Block((), ((head, entries[0]), *((entry,) for entry in entries[1:])), gap=True, hint=False)]


def code_table(rows: Sequence[CodeLine], room: int) -> list[str]:
    """Place, time, share of the step and share of the peak of each line, in columns."""
    place = room - PLACE_BESIDE
    return [
        f"{pad(shorten(row.place, place, middle=True), place)}{quantities.duration(row.seconds):>10}"
        f"{quantities.percent(row.share):>9}  {code_lines.rate(row)}".rstrip()
        for row in rows
    ]


def _idle(report: Report, look: Look) -> list[Line]:
    """The causes of idle time: in one line, or with `-v` one a line with its meaning."""
    left, room = " " * (len(INDENT) + 15), look.width - len(INDENT) - 15
    causes = [(name, quantities.duration(value)) for name, value in wording.idle_causes(report)]
    if not causes:
        return []
    if not look.verbose:
        times = [f"{named(name)} {time}" for name, time in causes]
        told = ", ".join(times) if look.whole else as_many(times, room - 15)
        return [line(left + row, "quiet") for row in wrap(f"idle by cause: {told}", room)]
    rows = [line(left + "idle by cause:", "quiet")]
    for name, time in causes:
        parts = wrap(meaning(name), room - 9)
        rows += [line(f"{left}{'' if i else time:>7}  {part}", "quiet") for i, part in enumerate(parts)]
    return rows


def as_many(parts: Sequence[str], room: int) -> str:
    """As many of the first parts as fit, then "..." if some are left out."""
    kept = [", ".join(parts[: i + 1]) + (", ..." if i + 1 < len(parts) else "") for i in range(len(parts))]
    return next((text for text in reversed(kept) if cells(text) <= room), kept[0])


def entry(name: str, text: str, look: Look) -> tuple[Line, ...]:
    """A rule's name and a sentence beside it."""
    rows = wrap(text, look.width - 4 - ENTRY, lines=look.at_most(2))
    if look.verbose and cells(name) >= ENTRY:
        return (line(" " * 4 + name), *(line(" " * (4 + ENTRY) + row) for row in rows))
    label = pad(shorten(name, ENTRY - 1), ENTRY)
    return tuple(line(" " * 4 + (label if i == 0 else " " * ENTRY) + row) for i, row in enumerate(rows or [""]))


def judged(report: Report, look: Look) -> list[Block]:
    """What the rules said that found nothing to fix: their numbers in one line, or with `-v` their names and reasons."""
    if look.verbose:
        return [_passed(report, look), *_unmeasured(report, look)]
    counts = (
        (len(report.passed), "passed"),
        (len(report.withheld), plan_words.held_back(report)),
        (sum(len(rules) for rules, _ in wording.unmeasured(report)), "not measured"),
    )
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    rows = wrap(f"Other checks: {told}{ALL}", look.width - len(INDENT)) if told else []
    return [Block(tuple(line(INDENT + row, "quiet") for row in rows))]


def _passed(report: Report, look: Look) -> Block:
    """Rules that found no problem."""
    rules = [d.rule for d in report.passed]
    names = [f"{INDENT * 2}{row}" for row in wrap(", ".join(rules), look.width - 10)]
    return Block((line(f"{INDENT}Passed {len(rules)}{':' if rules else ''}", "head"), *map(line, names)), gap=True)


def _unmeasured(report: Report, look: Look) -> list[Block]:
    """Rules that could not be checked, grouped by reason."""
    groups = wording.unmeasured(report)
    if not groups:
        return []
    entries = tuple(_together(rules, reason, look) for rules, reason in groups)
    number_of = sum(len(rules) for rules, _ in groups)
    return [Block((line(f"{INDENT}Not measured {number_of}", "head"),), entries, urgency=2)]


def _together(rules: Sequence[str], reason: str, look: Look) -> tuple[Line, ...]:
    """All rules with one reason, then the reason."""
    if len(rules) == 1:
        return entry(rules[0], reason, look)
    names = [line(" " * 4 + row) for row in wrap(", ".join(rules) + ":", look.width - 4)]
    return (*names, *(line(" " * 6 + row) for row in wrap(reason, look.width - 6)))


def caution(report: Report, look: Look) -> list[Block]:
    """What limits the numbers. The first caution is always shown."""
    texts = caveat_words.cautions(report)
    if not texts:
        return []
    room = look.width - len(INDENT) - LABEL
    rows = [wrap(text, room, lines=look.at_most(1 if look.tight else 2)) or [""] for text in texts]
    head = tuple(labelled([("Caution" if len(texts) == 1 else "Cautions", rows[0])]))
    entries = tuple(tuple(line(" " * (len(INDENT) + LABEL) + t) for t in row) for row in rows[1:])
    return [Block(head, entries, gap=True, urgency=0, hint=False)]
