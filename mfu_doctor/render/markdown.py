"""The report as markdown, for pull requests, issues and notes. The order is that of the terminal.

All text from a trace is escaped, because the name of a kernel can contain any character.
"""

from __future__ import annotations

from collections.abc import Sequence

from mfu_doctor import quantities
from mfu_doctor.render.words import caveats as caveat_words
from mfu_doctor.render.words import code_lines, columns, labels, whole_run, wording
from mfu_doctor.render.words import plan as plan_wording
from mfu_doctor.render.words.escape import code, inline
from mfu_doctor.render.words.next_commands import Origin, commands, naming
from mfu_doctor.render.words.text import EN_DASH, clean, each_text, shorten
from mfu_doctor.render.words.trial import of_program, tried_for
from mfu_doctor.result.bottleneck import meaning
from mfu_doctor.result.findings import Diagnosis
from mfu_doctor.result.report import Report

LONGEST = 400  # characters of one sentence
MOST = 25  # fixes, reasons or cautions of one section; the rest is only counted


def render_markdown(report: Report, *, origin: Origin | None = None) -> str:
    """The report as GitHub-flavoured markdown, far below the 64 kB at which GitHub cuts comments.

    Args:
        report: the result to show.
        origin: where the report comes from, for the next commands.
    """
    name = naming(report, origin)
    shown: Report = each_text(report, lambda text: shorten(clean(name(text)), LONGEST))
    sections = (_title, verdict, fixes, _number, _whole, where, _code, _passed, _unmeasured, cautions)
    blocks = [*(make(shown) for make in sections), _commands(shown, origin)]
    return "\n\n".join("\n".join(rows) for rows in blocks if rows) + "\n"


def _title(report: Report) -> list[str]:
    rows = [f"### mfu-doctor: {wording.headline(report)[0]}, {wording.step_time(report)[0]}", ""]
    device = report.device.name or ("CPU" if report.device.kind == "cpu" else "GPU")
    rank = labels.rank(report)
    many = f"{report.device.count} × " if report.device.count > 1 and not rank else ""  # noqa: RUF001 - the sign meant
    about = [inline(report.run.trace), wording.steps(report), f"{many}{inline(device)}", *([rank] if rank else [])]
    if "torch" in report.run.versions:
        about.append(f"torch {inline(report.run.versions['torch'])}")
    return [*rows, " · ".join(about)]


def verdict(report: Report) -> list[str]:
    """What makes the numbers wrong, then what limits the run."""
    told = caveat_words.first_caveats(report)
    rows = [f"> **{inline(caveat_words.caveat(text, remedy))}**" for text, remedy in told]
    sentence = [f"**{inline(report.verdict.sentence)}**"] if report.verdict is not None else []
    return [*rows, *([""] if rows else []), *sentence]


def _number(report: Report) -> list[str]:
    label, text = wording.headline(report)
    step, how = wording.step_time(report)
    facts = [(label, text), ("FLOPs", wording.basis(report)), (step, how.replace("+-", "±"))]
    facts.append(("*", (wording.footnote(report) or "").removeprefix("* ")))
    change = wording.baseline(report)
    if change and report.baseline:
        facts.append((f"against {report.baseline.trace}", change.replace("->", "→")))
    return [*(f"- **{inline(name)}**: {inline(words)}" for name, words in facts if words)]


def _whole(report: Report) -> list[str]:
    rows = whole_run.rows(report)
    if not rows:
        return []
    scale, unit = quantities.time_unit(max(row.seconds for row in rows))
    times = columns.table_column([row.seconds / scale for row in rows])
    table = [f"| whole run ({whole_run.caption(report)}) | {unit} | share | |", "| --- | ---: | ---: | --- |"]
    for row, time in zip(rows, times, strict=True):
        table.append(f"| {inline(row.label)} | {time} | {row.share} | {inline(row.note)} |")
    return table


def where(report: Report) -> list[str]:
    """The step time breakdown, and idle time by cause."""
    rows = wording.buckets(report)
    if not rows:
        return []
    scale, unit = quantities.time_unit(report.breakdown.step_s)
    times = columns.table_column([row.seconds / scale for row in rows])
    table = [f"| step time breakdown | {unit} | share | |", "| --- | ---: | ---: | --- |"]
    for row, time in zip(rows, times, strict=True):
        table.append(f"| {row.label} | {time} | {row.share} | {row.note} |")
    causes = ", ".join(_cause(name, seconds) for name, seconds in wording.idle_causes(report))
    return [*table, *(["", f"Idle by cause: {causes}."] if causes else [])]


def _code(report: Report) -> list[str]:
    rows = code_lines.first_lines(report)
    table = [f"| {code_lines.title(report)} | time | share | |", "| --- | ---: | ---: | --- |"]
    for row in rows:
        time, part = quantities.duration(row.seconds), quantities.percent(row.share)
        table.append(f"| {inline(row.place)} | {time} | {part} | {code_lines.rate(row)} |")
    return table if rows else []


def _cause(owner: str, seconds: float) -> str:
    name, _, means = meaning(owner).partition(": ")
    return f"{inline(name)} {quantities.duration(seconds)}{f' ({means})' if means else ''}"


def fixes(report: Report) -> list[str]:
    """What to fix, what all of it saves, and what saves too little here."""
    found, rows = report.failed, []
    if found:
        error = wording.replay_error(report)
        rows += [f"**What to fix**{f' ({error})' if error else ''}", ""]
        rows += [labels.replayed(found[:MOST]), ""] if report.device.unseen is None else []
        for index, diagnosis in enumerate(found[:MOST], 1):
            rows += _fix(report, index, diagnosis)
        rows += _left_out(found)
        plan = plan_wording.in_order(report, EN_DASH)
        if plan:
            notes = [_sentence(text) for text in plan_wording.plan_notes(report) if text not in plan]
            rows += ["", " ".join(inline(text) for text in (f"{plan}.", *notes)), *_unlisted(report)]
    rows += ["", inline(tried)] if (tried := of_program(report)) else []
    held = report.withheld
    if held:
        told = plan_wording.held_back(report)
        rows += ["", f"{told[:1].upper()}{told[1:]}:", ""]
        rows += [f"- {inline(d.rule)}: {inline(plan_wording.why_withheld(report, d))}" for d in held[:MOST]]
        rows += _left_out(held)
    return rows


def _fix(report: Report, index: int, diagnosis: Diagnosis) -> list[str]:
    after = wording.mfu_after(diagnosis, EN_DASH)
    saves = wording.saving(report, diagnosis, EN_DASH)
    others = plan_wording.after_others(report, diagnosis)
    alone = f" ({others})" if others else ""
    if diagnosis.saving is not None:
        promise = "" if diagnosis.is_question else "saves "
        saves = f"{promise}{saves} {wording.per(report)}{alone}, {diagnosis.sure}"
    at = f" at {inline(diagnosis.place)}" if diagnosis.place else ""
    rows = [
        f"{index}. **{inline(diagnosis.rule)}**{at}: {inline(diagnosis.summary)}; {saves}"
        + (f" (MFU {after})" if after else "")
    ]
    indent = " " * (len(str(index)) + 2)
    if diagnosis.fix:
        rows += ["", *(f"{indent}{row}" for row in code(diagnosis.fix))]
    parts = (*tried_for(report, diagnosis.rule), wording.decided_by(report, diagnosis), wording.remarks(diagnosis))
    note = "; ".join(part for part in (*parts, labels.risk(diagnosis)) if part)
    return [*rows, "", f"{indent}{inline(note)}"] if note else rows


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _unlisted(report: Report) -> list[str]:
    """The code of the plan's fixes that are not in the list above it."""
    rows = []
    for found in plan_wording.unlisted_fixes(report):
        rows += ["", f"{inline(found.rule)}:", "", *code(found.fix or "")]
    return rows


def _left_out(listed: Sequence[object]) -> list[str]:
    return ["", f"... and {len(listed) - MOST} more"] if len(listed) > MOST else []


def _passed(report: Report) -> list[str]:
    return [f"Passed {len(report.passed)}: {', '.join(inline(d.rule) for d in report.passed)}"] if report.passed else []


def _unmeasured(report: Report) -> list[str]:
    groups = wording.unmeasured(report)
    if not groups:
        return []
    rows = [f"- {', '.join(inline(rule) for rule in rules)}: {inline(reason)}" for rules, reason in groups[:MOST]]
    return [f"Not measured {sum(len(rules) for rules, _ in groups)}:", "", *rows, *_left_out(groups)]


def cautions(report: Report) -> list[str]:
    """What limits the numbers."""
    texts = caveat_words.cautions(report)
    rows = [f"- {inline(text)}" for text in texts[:MOST]]
    return ["**Caution**", "", *rows, *_left_out(texts)] if rows else []


def _commands(report: Report, origin: Origin | None) -> list[str]:
    return ["```", *(command for command, _ in commands(report, origin)), "```"]
