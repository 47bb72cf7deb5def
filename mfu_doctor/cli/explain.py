"""`mfu-doctor explain [RULE [TRACE]]`: the documentation of the rules, from the rules' own docstrings, offline.

The terminal, the web page and the source code show one text, which stands beside the code that it describes.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from mfu_doctor.errors import DoctorError, suggest
from mfu_doctor.result.bottleneck import VOCABULARY, meaning
from mfu_doctor.result.findings import SURE
from mfu_doctor.rules.catalogue import EVERY_RULE, AnyRule, choose, find
from mfu_doctor.rules.contract import HEADINGS
from mfu_doctor.rules.families import Family, family_named

FORMATS = ("text", "markdown", "json")


def run_explain(
    name: str | None,
    format: str = "text",  # noqa: A002 - the word users know from --format
    source: str | None = None,
) -> str:
    """The documentation of one rule, of a family, or the list of all rules; of a rule also what it found in a file.

    Args:
        name: the name, code or alias of a rule, a family ("IN" or "input"), or None for the list.
        format: text, markdown or json.
        source: a trace or a saved report, whose finding by this rule stands first.

    Raises:
        DoctorError: the rule or format does not exist.
    """
    if format not in FORMATS:
        raise DoctorError(f"unknown format {format!r}", suggest(format, FORMATS))
    if name is None:
        return _list(EVERY_RULE, format)
    if family_named(name) is not None and source is None:
        return _list(choose(EVERY_RULE, select=(name,)), format)
    rule = _rule_named(name)
    if source is not None:
        return _found_in(source, rule, format)
    if format == "json":
        return _json([described(rule)])
    return (_markdown if format == "markdown" else _text)(rule)


def _rule_named(name: str) -> AnyRule:
    """The rule. Whoever names a file is told what shows its findings."""
    try:
        return find(name)
    except DoctorError as error:
        if not Path(name).exists():
            raise
        file = shlex.quote(name)
        raise DoctorError(
            f"{name} is a file, and explain takes a rule first",
            f"mfu-doctor explain RULE {file} shows what a rule found in it, mfu-doctor report {file} -v all findings",
        ) from error


def _found_in(source: str, rule: AnyRule, format: str) -> str:  # noqa: A002
    """What the rule found in this file, then its documentation."""
    from mfu_doctor.cli.origin import origin_of
    from mfu_doctor.inputs.load import load_input, processors
    from mfu_doctor.render.terminal.paint import abilities
    from mfu_doctor.render.terminal.terminal import render_finding

    if format != "text":
        raise DoctorError(
            f"a finding cannot be shown as {format}", "mfu-doctor report FILE -o report.json has all of them"
        )
    loaded = load_input(source, threads=processors())
    origin = origin_of(source, loaded.report, is_saved=loaded.is_saved)
    return f"{render_finding(loaded.report, rule.name, screen=abilities(sys.stdout), origin=origin).rstrip()}\n\n{_text(rule)}"


def sections(document: str) -> dict[str, str]:
    """The docstring of a rule, split at its fixed headings. The opening sentence has the key "". Indentation is removed."""
    parts: dict[str, list[str]] = {"": []}
    current = parts[""]
    for row in document.splitlines():
        if row.strip() in HEADINGS and not row.startswith(" "):
            current = parts.setdefault(row.strip(), [])
        else:
            current.append(row.removeprefix("    "))
    return {heading: "\n".join(rows).strip("\n") for heading, rows in parts.items()}


def described(rule: AnyRule) -> dict[str, object]:
    """A rule as plain data."""
    parts = sections(rule.doc)
    return {
        "name": rule.name,
        "code": rule.code,
        "title": rule.title,
        "family": rule.family.folder,
        "caution": rule.caution,
        "needs": [need.word for need in rule.needs],
        "topics": list(rule.also),
        "summary": " ".join(parts.pop("").split()),
        "sections": parts,
    }


def _text(rule: AnyRule) -> str:
    parts = sections(rule.doc)
    rows = [f"{rule.name} ({rule.code}): {rule.title}", "", parts.pop("")]
    for heading, body in parts.items():
        rows += ["", heading, *(f"  {row}".rstrip() for row in body.splitlines())]
    if rule.needs:
        rows += ["", "Needs", *(f"  {need.word}: {need.means}" for need in rule.needs)]
    if not rule.caution:
        rows += _how_sure()
    if rule.also:
        rows += ["", "Also known as", f"  {', '.join(rule.also)}"]
    return "\n".join(rows) + "\n"


def _how_sure() -> list[str]:
    """What reports mean by how the amount of a saving is known."""
    return ["", "How the amount of a saving is known", *(f"  {level}: {meaning}" for level, meaning in SURE.items())]


def _vocabulary() -> list[str]:
    """What reports call the owners of a step's time."""
    told = [(words.bound, meaning(owner)) for owner, words in VOCABULARY.items() if words.means]
    rows = [f"{bound}: {means.partition(': ')[2]}" if bound else means for bound, means in told]
    return ["", "What has the time of a step", *(f"  {row}" for row in rows)]


def _markdown(rule: AnyRule) -> str:
    parts = sections(rule.doc)
    rows = [f"## {rule.name} ({rule.code})", "", parts.pop("")]
    for heading, body in parts.items():
        rows += ["", f"### {heading}", "", body]
    return "\n".join(rows) + "\n"


def _list(rules: tuple[AnyRule, ...], format: str) -> str:  # noqa: A002
    if format == "json":
        return _json([described(rule) for rule in rules])
    width = max(len(rule.name) for rule in rules)
    rows: list[str] = []
    for family in Family:
        members = [rule for rule in rules if rule.family is family]
        if not members:
            continue
        question = f"{family.folder}: {family.question}"
        if format == "markdown":
            rows += [f"**{question}**", "", *(f"- `{r.name}` ({r.code}): {r.title}" for r in members), ""]
        else:
            rows += [question, *(f"  {r.code}  {r.name:<{width}} {r.title}" for r in members), ""]
    if format == "text" and rules == EVERY_RULE:
        rows[-1:] = [*_how_sure(), *_vocabulary()]
    return "\n".join(rows).rstrip("\n") + "\n"


def _json(data: object) -> str:
    from mfu_doctor.json_text import json_bytes

    return json_bytes(data, indent=1).decode() + "\n"
