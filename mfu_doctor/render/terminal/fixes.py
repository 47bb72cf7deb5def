"""The fixes in the terminal report: ranked, then what they save together, then those that save too little here."""

from __future__ import annotations

from mfu_doctor import quantities
from mfu_doctor.render.terminal.panels import INDENT, Look, entry
from mfu_doctor.render.terminal.screen import ALL, Block, Line, line
from mfu_doctor.render.words import labels, wording
from mfu_doctor.render.words import plan as plan_wording
from mfu_doctor.render.words.pasteable import shown_code, wrap_code
from mfu_doctor.render.words.text import cells, pad, shorten, wrap
from mfu_doctor.result.findings import Diagnosis
from mfu_doctor.result.report import Report

NAME = 20  # columns of a rule's name
SAVES, AFTER = 12, 13  # columns of "saves/step" and "MFU then"
MOST_CODE = 4  # lines of code of one fix on the first screen; -v shows all
TEXT = " " * 6  # what stands under a fix's name


def fixes(report: Report, look: Look) -> list[Block]:
    """Ranked fixes with their predicted savings, what they save together, and fixes that save too little here."""
    found = report.failed
    if not found:
        text = wording.nothing_found(report)
        head = [line(INDENT + t, "head" if i == 0 else "") for i, t in enumerate(wrap(text, look.width - 2))]
        return [Block(tuple(head), gap=True, hint=False), *_plan(report, look), *_withheld(report, look)]
    error = wording.replay_error(report)
    title = f"{INDENT}Fix first" + (f" ({error})" if error else "")
    head = [line(_columns(title, "saves/step", "MFU then", look), "head")]
    blocks = [Block((*head, *(_about_replay(look, error) if look.verbose else ())), gap=True)]
    most = len(found) if look.verbose else look.fixes
    blocks += [_finding(i, f, look) for i, f in enumerate(found[:most], 1)]
    if len(found) > most:
        names = ", ".join(f.rule for f in found[most:])
        text = shorten(f"{INDENT}and {len(found) - most} more: {names}", look.width - len(ALL)) + ALL
        blocks.append(Block((line(text),)))
    return [*blocks, *_plan(report, look), *_withheld(report, look)]


def _about_replay(look: Look, error: str | None) -> tuple[Line, ...]:
    """What a replay is, once and only with `-v`."""
    text = f"{labels.REPLAY} {labels.REPLAY_ERROR}" if error else labels.REPLAY
    return tuple(line(TEXT + row, "quiet") for row in wrap(text, look.width - len(TEXT)))


def _columns(left: str, saves: str, after: str, look: Look) -> str:
    """A row of the fix table: text on the left, saving and MFU on the right."""
    room = look.width - SAVES - AFTER
    return pad(shorten(left, room), room) + saves.rjust(SAVES) + after.rjust(AFTER)


def _finding(index: int, found: Diagnosis, look: Look) -> Block:
    """One fix: its name, the problem, the saving, the code to paste (never cut), and the reason."""
    start = f"{INDENT}{index} {found.rule}"
    beside = look.width - SAVES - AFTER - len(INDENT) - 2 - NAME
    short = len(found.rule) < NAME and cells(found.summary) <= beside
    left = pad(start, len(INDENT) + 2 + NAME) + found.summary if short else start
    rows: list[Line] = [line(_columns(left, wording.saving(found), wording.mfu_after(found), look), "number")]
    room = look.width - len(TEXT)
    if not short and found.summary:
        rows += [line(TEXT + t) for t in wrap(found.summary, room, lines=None if look.verbose else 2)]
    fix = found.fix or ""
    code = wrap_code(fix, room) if look.verbose else shown_code(fix, room, lines=MOST_CODE)
    rows += [line(TEXT + row, "code") for row in code]
    note = wording.remarks(found)
    extra: list[tuple[Line, ...]] = []
    if note:
        extra.append(tuple(line(TEXT + t, "quiet") for t in wrap(note, room, lines=None if look.verbose else 2)))
    if look.verbose:
        extra += [
            tuple(line(f"{TEXT}  {'  ' if i else ''}{t}", "quiet") for i, t in enumerate(wrap(row, room - 4)))
            for row in evidence(found)
        ]
    return Block(tuple(rows), tuple(extra), urgency=1, hint=False)


def evidence(found: Diagnosis) -> list[str]:
    """The numbers behind a finding, then its code with confidence, effort and risk in words."""
    rows = [
        f"{e.name}: {quantities.measure(e.value, e.unit)}" + (f" at {e.place}" if e.place else "")
        for e in found.evidence
    ]
    tags = [*labels.fix_tags(found.effort, found.confidence, found.risk), f"at {found.place}" if found.place else ""]
    words = "; ".join(tag for tag in tags if tag)
    return [*rows, f"{found.code}: {words}" if words else found.code]


def _plan(report: Report, look: Look) -> list[Block]:
    """The saving of the fixes together, their order, and why the plan stops."""
    plan = plan_wording.together(report)
    blocks = []
    if plan:
        head = line(_columns(INDENT + "Fixes simulated together", *plan, look), "head")
        names = wrap(plan_wording.plan_names(report), look.width - len(TEXT), lines=None if look.verbose else 3)
        rows = [head, *(line(TEXT + t) for t in names)]
        if report.plan.at_floor and report.plan.stop and not look.verbose:
            rows += [line(TEXT + t, "quiet") for t in wrap(report.plan.stop, look.width - len(TEXT), lines=2)]
        blocks.append(Block(tuple(rows)))
    if look.verbose:
        blocks.append(Block(tuple(line(t) for t in _plan_rows(report, look))))
    return blocks


def _plan_rows(report: Report, look: Look) -> list[str]:
    """The step after each fix and all before it, the code of fixes that are not listed above, and why the plan stops."""
    listed = {found.rule for found in report.failed}
    room = look.width - len(TEXT)
    rows, notes = [], list[str]()
    for index, step in enumerate(report.plan.steps):
        mfu = f", MFU {quantities.percent_range(step.mfu, step.mfu)}" if step.mfu is not None else ""
        start = "and with" if index else "with"
        rows.append(f"{INDENT * 2}{start} {step.rule} fixed: {quantities.duration(step.step_s, 2)} per step{mfu}")
        found = report.diagnosis(step.rule)
        if step.rule not in listed and found is not None and found.fix:
            rows += [f"{TEXT}{row}" for row in wrap_code(found.fix, room)]
    if report.plan.roofline_s is not None:
        notes.append(plan_wording.lower_bound(report.plan.roofline_s))
    notes += plan_wording.plan_notes(report)
    return rows + [INDENT * 2 + row for text in notes for row in wrap(text, look.width - 4)]


def _withheld(report: Report, look: Look) -> list[Block]:
    """Fixes that save too little here, each with its number."""
    held = report.withheld
    if not held:
        return []
    entries = tuple(entry(d.rule, plan_wording.why_withheld(report, d), look) for d in held)
    return [Block((line(f"{INDENT}Saves too little here {len(held)}", "head"),), entries, urgency=3)]
