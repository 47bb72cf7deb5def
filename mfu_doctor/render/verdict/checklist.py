"""The verdict as a checklist: for a terminal, and as markdown for a job summary, a pull request or a merge request note.

Only the markdown has emoji. It remains far below the size at which GitHub drops a summary without a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mfu_doctor import quantities
from mfu_doctor.quantities import counted
from mfu_doctor.render.terminal.paint import Abilities, shown_on
from mfu_doctor.render.terminal.screen import BLANK, Line, Span, line
from mfu_doctor.render.verdict.saves import saves
from mfu_doctor.render.words.escape import code, inline
from mfu_doctor.render.words.pasteable import shown_code
from mfu_doctor.render.words.text import cells, clean, each_text, pad, shorten, wrap
from mfu_doctor.result.findings import asks
from mfu_doctor.result.verdict import (
    FAILED,
    INCONCLUSIVE,
    NO_STEPS,
    NOT_MEASURED,
    PASSED,
    WARNING,
    Check,
    Verdict,
    some_of,
)

MAX_BYTES = 64 * 1024 - 1  # of markdown; GitHub drops a step summary above 1 MiB and a comment above 65,536 characters
LONGEST_TEXT = 600  # characters of one sentence or fix in markdown
MOST_RULES = 40  # findings listed in markdown
MOST_CAUTIONS = 4  # listed in the terminal

_TITLES = {True: "New since the baseline", False: "As in the baseline", None: "Not compared with the baseline"}
_ROLES = {FAILED: "failed", INCONCLUSIVE: "number", WARNING: "number", NOT_MEASURED: "quiet", PASSED: ""}
_WORDS = {FAILED: "FAILED", INCONCLUSIVE: "UNSURE", WARNING: "warn", NOT_MEASURED: "-", PASSED: "ok"}
_EMOJI = {FAILED: "❌", INCONCLUSIVE: "⚠️", WARNING: "⚠️", NOT_MEASURED: "➖", PASSED: "✅"}  # noqa: RUF001 - the sign meant


def render_checklist(verdict: Verdict, *, screen: Abilities | None = None) -> str:
    """The checklist for a terminal, ASCII except for names.

    Args:
        verdict: the outcome.
        screen: what the stream can show; if None, 80 columns without colour, as for a pipe.
    """
    screen = screen or Abilities()
    width = screen.width
    verdict = each_text(verdict, clean)
    outcome = "head" if verdict.ok else "failed"
    lines = [line(row, outcome) for row in wrap(f"mfu-doctor check {verdict.headline}", width)]
    lines += _indent(_judged(verdict), width, role="quiet")
    lines += [*(_indent(verdict.judged.sentence, width, role="head") if verdict.judged.sentence else []), BLANK]
    table = [check for check in verdict.checks if check.kind != "rule"]
    if table:
        lines += [*_columns([_terminal_row(check) for check in table], width), BLANK]
        lines += [row for check in table for row in _below_table(check, width)]
    groups = _by_age(verdict)
    for title, checks in groups:
        lines += [*_gap(lines), line(f"  {title}", "head")] if title else []
        lines += [row for check in checks for row in _detail(check, width)]
    rest = _rest(verdict, width)
    lines += [*(_gap(lines) if rest and any(title for title, _ in groups) else []), *rest]
    while lines[-1] == BLANK:
        lines.pop()
    return shown_on(screen, lines)


def _gap(lines: Sequence[Line]) -> list[Line]:
    """A blank line, unless there is one."""
    return [] if lines[-1] == BLANK else [BLANK]


def _by_age(verdict: Verdict) -> list[tuple[str, list[Check]]]:
    """What the rules found: what is new since the baseline before what it has too; without a title where that is not known."""
    found = [c for c in verdict.checks if c.kind == "rule" and c.status in (FAILED, INCONCLUSIVE, WARNING)]
    known = any(check.is_new is not None for check in found)
    groups = [(_TITLES[age] if known else "", [c for c in found if c.is_new is age]) for age in (True, False, None)]
    return [(title, checks) for title, checks in groups if checks]


def _judged(verdict: Verdict) -> str:
    """Runs, steps, device and baseline in one sentence."""
    judged = verdict.judged
    runs = f"{len(judged.runs)} runs" if len(judged.runs) > 1 else judged.runs[0]
    profiled = "without the profiler" if judged.step_source == "timed" else "recorded with the profiler"
    steps = f"{quantities.counted(judged.steps, 'step')} {profiled}"
    if judged.step_source == NO_STEPS:
        steps = "no steps marked"
    parts = [runs, steps, judged.device or "", f"torch {judged.torch}" if judged.torch else ""]
    if judged.baseline:
        many = len(judged.baseline) > 1
        parts.append(f"against {len(judged.baseline)} baseline runs" if many else f"against {judged.baseline[0]}")
    if judged.allowed:
        parts.append(f"allowed to differ: {', '.join(judged.allowed)}")
    return ", ".join(part for part in parts if part)


def _indent(text: str, width: int, by: int = 2, role: str = "") -> list[Line]:
    return [line(" " * by + row, role) for row in wrap(text, width - by)]


def _marked(check: Check, text: str, width: int) -> list[Line]:
    """A sentence that begins with the word of its check's status, which has the colour."""
    word = _WORDS[check.status]
    first, *rest = wrap(f"{word} {text}", width - 2)
    head = (Span("  "), Span(word, _ROLES[check.status]), Span(first.removeprefix(word)))
    return [head, *(line(f"  {row}") for row in rest)]


def _row(check: Check, *, plus: str) -> tuple[str, ...]:
    """Status, name, value of this run, limit, baseline and change of one budget."""
    side = "at least" if check.at_least else "at most"
    is_relative = check.budget is not None and check.budget.startswith("+")
    return (
        check.status,
        check.name,
        _with_spread(
            check.value, check.spread, check.unit, plus, limit=check.limit if check.status == FAILED else None
        ),
        f"{side} {check.budget if is_relative else quantities.figure(check.limit, check.unit)}",
        "" if check.baseline is None else _with_spread(check.baseline, check.baseline_spread, check.unit, plus),
        quantities.change_of(check.change, check.unit),
    )


def _terminal_row(check: Check) -> tuple[str, ...]:
    """The same in fewer columns: ">=" and "<=" for "at least" and "at most", the baseline without its spread."""
    status, name, value, budget, _, change = _row(check, plus="+-")
    baseline = "" if check.baseline is None else quantities.figure(check.baseline, check.unit)
    budget = budget.replace("at least", ">=").replace("at most", "<=")
    return status, name, value, budget, baseline, change


def _with_spread(value: float | None, spread: float | None, unit: str, plus: str, *, limit: float | None = None) -> str:
    text = quantities.figure_beside(value, limit, unit)
    told = quantities.spread_of(spread, value, unit) if spread and value is not None else ""
    return f"{text} {plus}{told}" if told.strip("0.") else text


def _columns(rows: Sequence[tuple[str, ...]], width: int) -> list[Line]:
    """The table of budgets with its heads; the widest column gives way where all do not fit."""
    shown: list[tuple[str, ...]] = [("", "check", "this run", "budget", "baseline", "change")]
    shown += [(_WORDS[row[0]], *row[1:]) for row in rows]
    if not any(row[4] for row in rows):
        shown = [row[:4] for row in shown]  # without a baseline there is no change either
    widths = [min(max(cells(row[i]) for row in shown), width) for i in range(len(shown[0]))]
    while sum(widths) + 2 * len(widths) > width:
        widths[widths.index(max(widths))] -= 1
    roles = ["head", *(_ROLES[row[0]] for row in rows)]
    lines: list[Line] = []
    for row, role in zip(shown, roles, strict=True):
        first, *rest = (pad(shorten(cell, room), room) for cell, room in zip(row, widths, strict=True))
        lines.append((Span("  "), Span(first, role), Span("  " + "  ".join(rest), "head" if role == "head" else "")))
    return lines


def _below_table(check: Check, width: int) -> list[Line]:
    """What does not fit in the table: a relative limit as a number, notes on the outcome, and source lines."""
    said, at = _qualified(check), f"at {', '.join(check.places)}" if check.places else ""
    if not said and not at:
        return []
    told = f"{check.name}: {said or at}"
    lines = _indent(told, width) if check.status == PASSED else _marked(check, told, width)
    return lines + (_indent(at, width, 6, "code") if said else [])


def _qualified(check: Check) -> str:
    """Sentences about a budget that do not repeat its row."""
    relative = check.budget is not None and check.budget.startswith("+")
    parts = []
    if relative and check.status != PASSED:
        side = "at least" if check.at_least else "at most"
        parts.append(f"the limit is {side} {quantities.figure(check.limit, check.unit)} (baseline {check.budget})")
    return "; ".join([*parts, *([check.note] if check.note else [])])


def _detail(check: Check, width: int) -> list[Line]:
    lines = _marked(check, f"{check.name}: {check.summary}", width)
    if check.saving is not None and check.kind == "rule":
        lines += _indent(_saving(check, "-"), width, 6)
    lines += _indent(f"at {', '.join(check.places)}", width, 6, "code") if check.places else []
    lines += [line(f"      {row}", "code") for row in shown_code(check.fix or "", width - 6)]
    return lines


def _saving(check: Check, dash: str) -> str:
    """What fixing it saves, and the MFU then if it is known."""
    saving = check.saving
    if saving is None:
        return ""
    text = saves(check, dash)
    if asks(check.fix) or saving.mfu_low is None or saving.mfu_high is None:
        return text
    return f"{text} (MFU {quantities.percent_range(saving.mfu_low, saving.mfu_high, dash=dash)})"


def _rest(verdict: Verdict, width: int) -> list[Line]:
    passed = [check.name for check in verdict.with_status(PASSED) if check.kind == "rule"]
    told = [f"passed {len(passed)}: {some_of(passed)}"] if passed else []
    told += verdict.unmeasured()
    told += [f"caution: {text}" for text in verdict.cautions[:MOST_CAUTIONS]]
    more = len(verdict.cautions) - MOST_CAUTIONS
    told += [f"and {more} more cautions: see the reports of the runs"] if more > 0 else []
    return [row for text in told for row in _indent(text, width, role="quiet")]


def render_checklist_markdown(verdict: Verdict) -> str:
    """The checklist as GitHub-flavoured markdown, below 64 kB; every value is escaped."""
    verdict = each_text(verdict, lambda text: shorten(clean(text), LONGEST_TEXT))
    lines = [f"### mfu-doctor: {inline(verdict.headline)}", ""]
    lines += [inline(verdict.judged.sentence), ""] if verdict.judged.sentence else []
    table = [check for check in verdict.checks if check.kind != "rule"]
    if table:
        lines += [*_markdown_table(table), ""]
    for check in table:
        said = _qualified(check)
        if said or check.places:
            lines.append(f"- {inline(check.title)}{': ' if said else ''}{inline(said)}{_at(check)}")
    found = [(title, check) for title, checks in _by_age(verdict) for check in checks]
    for i, (title, check) in enumerate(found[:MOST_RULES]):
        is_first = bool(title) and (not i or found[i - 1][0] != title)
        lines += [*(["", f"**{title}**", ""] if is_first else []), *_markdown_finding(check)]
    if len(found) > MOST_RULES:
        lines.append(f"- and {counted(len(found) - MOST_RULES, 'more finding')}: see the report")
    passed = [check.name for check in verdict.with_status(PASSED) if check.kind == "rule"]
    lines += [f"- [x] {len(passed)} passed: {inline(some_of(passed))}"] if passed else []
    lines += [f"- {inline(told)}" for told in verdict.unmeasured()[:MOST_RULES]]
    lines += ["", *_markdown_details(verdict)]
    return _cut("\n".join(lines) + "\n")


def _markdown_table(checks: Iterable[Check]) -> list[str]:
    rows = [(check, _row(check, plus="± ")) for check in checks]
    against = any(row[4] for _, row in rows)
    head = ["", "check", "budget", *(["baseline"] if against else []), "this run", *(["change"] if against else [])]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for check, (status, _, value, budget, baseline, change) in rows:
        bold = f"**{inline(change)}**" if change and status == FAILED else inline(change)
        cells = [_EMOJI[status], inline(check.title), inline(budget), *([inline(baseline)] if against else [])]
        cells += [inline(value), *([bold] if against else [])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _markdown_finding(check: Check) -> list[str]:
    level = "" if check.status == WARNING else f"{_EMOJI[check.status]} "
    told = f" · {inline(_saving(check, '–'))}" if check.saving else ""  # noqa: RUF001 - a range
    lines = [f"- [ ] {level}**{inline(check.name)}** · {inline(check.summary)}{told}{_at(check)}"]
    return lines + [f"      {row}" for row in code(check.fix or "")]


def _at(check: Check) -> str:
    return f" · at {', '.join(inline(place) for place in check.places)}" if check.places else ""


def _markdown_details(verdict: Verdict) -> list[str]:
    """Runs, baseline and cautions in a folded section."""
    lines = [f"<details><summary>{inline(_judged(verdict))}</summary>", ""]
    lines += [f"- run {inline(run)}" for run in verdict.judged.runs[:MOST_RULES]]
    lines += [f"- baseline {inline(run)}" for run in verdict.judged.baseline[:MOST_RULES]]
    lines += [f"- caution: {inline(text)}" for text in verdict.cautions[:MOST_RULES]]
    return [*lines, "", "</details>"]


def _cut(text: str) -> str:
    """At most `MAX_BYTES` of UTF-8, cut at a line. Texts of usual size never reach this limit."""
    data = text.encode()
    if len(data) <= MAX_BYTES:
        return text
    note = "\n\n(truncated: use --format json for the complete result)\n"
    kept = data[: MAX_BYTES - len(note)]
    return kept[: kept.rindex(b"\n")].decode() + note
