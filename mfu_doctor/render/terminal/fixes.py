"""The fixes in the terminal report: ranked, then what they save together, then (with `-v`) those that save too little here."""

from __future__ import annotations

from collections.abc import Sequence

from mfu_doctor import quantities
from mfu_doctor.quantities import parts
from mfu_doctor.render.terminal.panels import INDENT, Look, entry
from mfu_doctor.render.terminal.screen import Block, Line, line
from mfu_doctor.render.words import labels, wording
from mfu_doctor.render.words import plan as plan_wording
from mfu_doctor.render.words.change import change_rows
from mfu_doctor.render.words.text import cells, pad, shorten, whole_clauses, whole_parts, wrap
from mfu_doctor.render.words.trial import of_program, tried_for
from mfu_doctor.result.findings import GUESSED, WITHHELD, Diagnosis
from mfu_doctor.result.findings import SURE as MARKS
from mfu_doctor.result.report import Report

SAVES, SURE = 22, 10  # columns of what a fix saves, and of how that amount is known
KNOWN = "how sure"
ROWS = 5  # fixes with a row of their own on the first screen, those shown in full included
BRIEF = 2  # lines below the name of a fix that is not shown in full
MOST_CODE = 4  # lines of code of one fix on the first screen; -v shows all
TEXT = " " * 4  # what stands under a fix's name


def fixes(report: Report, look: Look) -> list[Block]:
    """Ranked fixes with their predicted savings, what they save together, and fixes that save too little here."""
    found = report.failed
    if not found:
        return [*_trial(report, look), *_plan(report, look), *_withheld(report, look)]
    rows = [line(_columns(f"{INDENT}fix", f"saves {wording.per(report)}", KNOWN, look), "head")]
    blocks = [Block((*rows, *(_about_replay(report, look) if look.verbose else ())), gap=True)]
    most = len(found) if look.verbose else look.fixes
    blocks += [_finding(report, i, f, look) for i, f in enumerate(found[:most], 1)]
    brief = plan_wording.large(report, found[most:])[: ROWS - most]
    blocks += [_brief(report, i, f, look) for i, f in enumerate(brief, most + 1)]
    rest = [f for f in found[most:] if f not in brief]
    if rest:
        others = wrap(
            f"and {len(rest)} more: {_only_named(report, rest)}", look.width - len(INDENT), lines=look.at_most(1)
        )
        blocks.append(Block(tuple(line(INDENT + row) for row in others)))
    guesses = [f for f in rest if f.sure == GUESSED]
    blocks += [*_notes(report, [*found[:most], *brief, *guesses], look), *_trial(report, look)]
    return [*blocks, *_plan(report, look), *_withheld(report, look)]


def _only_named(report: Report, found: Sequence[Diagnosis]) -> str:
    """Fixes without a row: what each saves, if that is a guess, and whether only alone."""
    told = []
    for one in found:
        guessed = GUESSED if one.sure == GUESSED and one.saving is not None else ""
        after = plan_wording.in_short(plan_wording.after_others(report, one))
        told.append(" ".join(part for part in (one.rule, wording.saving(report, one), guessed, after) if part))
    return ", ".join(told)


def _notes(report: Report, shown: Sequence[Diagnosis], look: Look) -> list[Block]:
    """What the marks beside these savings mean, and why no fix has a place."""
    marks = "" if look.verbose else labels.marks_in_a_line({wording.sure(found) for found in shown})  # -v has said all
    rows, lines = (
        [line(INDENT + row, "quiet") for row in wrap(text, look.width - len(INDENT))] if text else []
        for text in (marks, labels.no_lines(report))
    )
    return [Block(tuple(rows), (tuple(lines),) if lines else (), urgency=0, hint=False)]


def one(report: Report, rule: str, look: Look) -> list[Block]:
    """What one rule said: its finding, or why it has none here."""
    found = report.diagnosis(rule)
    listed = {d.rule: index for index, d in enumerate(report.failed, 1)}
    head = line(_columns(f"{INDENT}In {report.run.trace}", f"saves {wording.per(report)}", KNOWN, look), "head")
    if found is not None and rule in listed:
        return [Block((head,)), _finding(report, listed[rule], found, look)]
    if found is None:
        why = "this rule was not asked"
    elif found.explained_by:
        why = f"{found.summary}. It is listed under its cause: {found.explained_by}"
    elif found.status == WITHHELD:
        why = plan_wording.why_withheld(report, found)
    else:
        why = found.reason or found.summary or found.status
    rows = wrap(f"In {report.run.trace}: {why}", look.width - len(INDENT))
    return [Block(tuple(line(INDENT + row) for row in rows))]


def _brief(report: Report, index: int, found: Diagnosis, look: Look) -> Block:
    """One fix and its place in a line, and if there is room its change, or the problem if that is longer."""
    place = (found.place or "").rpartition("/")[2]
    name, *below = _named(f"{index} {found.rule}" + (f": {place}" if place else ""), report, found, look)
    saves = _columns(name, wording.saving(report, found), wording.sure(found), look)
    room = look.width - len(TEXT)
    ask = found.is_question  # then the comment is what it asks
    change = [row for row in change_rows(found.fix or "", None, room) if ask or not row.lstrip().startswith("#")]
    told = change if change and len(change) <= BRIEF + ask else wrap(found.summary, room, lines=BRIEF)
    rows = (line(saves, "number"), *(line(TEXT + row) for row in below), *_tried(report, found, room))
    return Block(rows, (tuple(line(TEXT + row, "code") for row in told),), urgency=0, hint=False)


def _tried(report: Report, found: Diagnosis, room: int) -> list[Line]:
    """What `mfu-doctor try` measured of its fixes."""
    return [line(TEXT + row) for told in tried_for(report, found.rule) for row in wrap(told, room)]


def _trial(report: Report, look: Look) -> list[Block]:
    """What to do by all that was tried."""
    rows = wrap(of_program(report), look.width - len(INDENT))
    return [Block(tuple(line(INDENT + row) for row in rows))] if rows else []


def _about_replay(report: Report, look: Look) -> tuple[Line, ...]:
    """What a replay is and how far off this one is, once and only with `-v`."""
    error = wording.replay_error(report)
    text = f"{labels.REPLAY} {labels.REPLAY_ERROR} Here: {error}." if error else labels.REPLAY
    amounts = "; ".join(f"{mark}: {meaning}" for mark, meaning in MARKS.items())
    return tuple(line(TEXT + row, "quiet") for row in wrap(f"{text} Amounts: {amounts}.", look.width - len(TEXT)))


def _named(name: str, report: Report, found: Diagnosis, look: Look) -> list[str]:
    """The name of a fix with what it adds to those above it, and what it risks, which no screen is too full for.

    Where both do not fit beside the name, the plan tells what is added: one word of that must do, since savings read as a sum. If
    not even that fits, it has a line of its own, or on a full screen the name is cut.
    """
    after, room = plan_wording.after_others(report, found), look.width - SAVES - SURE
    whole, short = (
        "; ".join(part for part in (added, labels.risk(found)) if part)
        for added in (after, plan_wording.in_short(after))
    )
    if not whole:
        return [shorten(name, room - 1)] if look.tight > 1 else [name]
    is_told = found.rule in {step.rule for step in report.plan.steps}
    words = (whole, short) if is_told or not after else (whole,)
    beside = next((f"{name} ({told})" for told in words if cells(f"{name} ({told})") < room), None)
    if beside is not None:
        return [beside]
    word = f" ({short})"
    return [shorten(name, room - 1 - cells(word)) + word] if look.tight > 1 else [name, whole]


def _columns(left: str, saves: str, sure: str, look: Look) -> str:
    """A row of the fix table: text on the left, what it saves and how sure that is on the right."""
    room = look.width - SAVES - SURE
    return pad(shorten(left, room), room) + saves.rjust(SAVES) + sure.rjust(SURE)


def _finding(report: Report, index: int, found: Diagnosis, look: Look) -> Block:
    """One fix: its name, the problem, the saving, where and what to change (never cut), and the reason."""
    name, *below = _named(f"{index} {found.rule}", report, found, look)
    whole = f"{name}: {found.summary}"
    is_short = bool(found.summary) and cells(whole) < look.width - SAVES - SURE
    left = whole if is_short else name
    rows: list[Line] = [line(_columns(left, wording.saving(report, found), wording.sure(found), look), "number")]
    room = look.width - len(TEXT)
    told = "; ".join(text for text in (*below, "" if is_short or _is_told(report, found) else found.summary) if text)
    most = look.at_most(1 if look.tight > 1 else 2)
    about = [line(TEXT + t) for t in wrap(told if most is None else whole_clauses(told, room, most), room, lines=most)]
    change = [line(TEXT + row, "code") for row in _change(found, room, None if look.verbose else MOST_CODE)]
    # What is wrong in a job is told in the sentence above already: who is late and why, or what limits each rank.
    rows += [*change, *about] if labels.is_job(report) else [*about, *change]
    rows += _tried(report, found, room)
    decides, note = wording.decided_by(report, found), wording.remarks(found)
    if decides:
        rows += [line(TEXT + t, "quiet") for t in wrap(decides, room, lines=look.at_most(2))]
    extra: list[tuple[Line, ...]] = []
    if note:
        told = note if look.at_most(2) is None else whole_parts(note, room, 2)
        extra.append(tuple(line(TEXT + t, "quiet") for t in wrap(told, room, lines=look.at_most(2))))
    if look.verbose:
        extra += [
            tuple(line(f"{TEXT}  {'  ' if i else ''}{t}", "quiet") for i, t in enumerate(wrap(row, room - 4)))
            for row in evidence(found)
        ]
    return Block(tuple(rows), tuple(extra), urgency=1, hint=False)


def _is_told(report: Report, found: Diagnosis) -> bool:
    """Whether the first sentence of a job has said it: who is late, and why."""
    said = report.verdict.sentence if report.verdict is not None and labels.is_job(report) else ""
    return bool(found.summary) and found.summary in said


def _change(found: Diagnosis, room: int, lines: int | None) -> list[str]:
    return change_rows(found.fix or "", found.place, room, lines=lines)


def evidence(found: Diagnosis) -> list[str]:
    """The numbers behind a finding, then its code with effort, confidence and risk in words."""
    rows = [
        f"{e.name}: {quantities.measure(e.value, e.unit)}" + (f" at {e.place}" if e.place else "")
        for e in found.evidence
    ]
    after = wording.mfu_after(found)
    tags = [f"MFU then {after}" if after else "", *labels.fix_tags(found)]
    words = "; ".join(tag for tag in tags if tag)
    return [*rows, f"{found.code}: {words}" if words else found.code]


def _plan(report: Report, look: Look) -> list[Block]:
    """The saving of the fixes together, their order, and why the plan stops."""
    text = plan_wording.in_order(report)
    blocks = []
    if text:
        room, most = look.width - len(INDENT), look.at_most(2 if look.tight else 3)
        rows = wrap(text if most is None else whole_parts(text, room, most), room, lines=most)
        blocks.append(Block(tuple(line(INDENT + t, "" if i else "head") for i, t in enumerate(rows))))
    if look.verbose:
        blocks.append(Block(tuple(line(t) for t in _plan_rows(report, look))))
    return blocks


def _plan_rows(report: Report, look: Look) -> list[str]:
    """The step after each fix and all before it, the code of fixes that are not listed above, and why the plan stops."""
    listed = {found.rule for found in report.failed}
    room = look.width - len(TEXT)
    rows, notes = [], list[str]()
    after = () if report.savings_are_shares else plan_wording.steps_after(report)
    for index, (step, left) in enumerate(zip(report.plan.steps, after, strict=False)):
        mfu = f", MFU {quantities.percent_range(step.mfu, step.mfu)}" if step.mfu is not None else ""
        start = "and with" if index else "with"
        rows.append(f"{INDENT * 2}{start} {step.rule} fixed: {parts.part_alone(left, report.step_s)} per step{mfu}")
        found = report.diagnosis(step.rule)
        if step.rule not in listed and found is not None and found.fix:
            rows += [f"{TEXT}{row}" for row in _change(found, room, None)]
    if report.plan.roofline_s is not None:
        notes.append(plan_wording.lower_bound(report.plan.roofline_s))
    told = plan_wording.in_order(report)
    notes += [text for text in plan_wording.plan_notes(report) if text not in told]
    return rows + [INDENT * 2 + row for text in notes for row in wrap(text, look.width - 4)]


def _withheld(report: Report, look: Look) -> list[Block]:
    """Fixes that save too little here, each with its number; without `-v` they are only counted."""
    held = report.withheld
    if not held or not look.verbose:
        return []
    entries = tuple(entry(d.rule, plan_wording.why_withheld(report, d), look) for d in held)
    told = plan_wording.held_back(report)
    return [Block((line(f"{INDENT}{told[:1].upper()}{told[1:]} {len(held)}", "head"),), entries, urgency=3)]
