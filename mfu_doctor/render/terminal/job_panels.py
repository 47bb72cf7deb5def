"""The panels of a job's terminal report that one run does not have: who is late, collectives, ranks, how they were matched."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from mfu_doctor import quantities
from mfu_doctor.render.terminal.panels import INDENT, Look, as_many, labelled
from mfu_doctor.render.terminal.screen import Block, Line, line
from mfu_doctor.render.words import job as words
from mfu_doctor.render.words import wording
from mfu_doctor.render.words.text import cells, pad, shorten, whole_parts, wrap
from mfu_doctor.result.job import NOTHING, Blame, JobReport
from mfu_doctor.result.job_as_run import as_run

BLAMES, ROWS, RANKS = 2, 4, 3  # on the first screen
MOST_RANKS = 64  # with -v: more are counted
WHO = 30  # columns of who is late
_TOLD = 10  # thousandths of the step: what has less of it is not told in a line


def header(job: JobReport, look: Look) -> Block:
    """Version, source, ranks, steps and device."""
    run = as_run(job)
    fixed = [f"{job.tool} {job.version}".strip(), words.size_of_job(job), quantities.counted(run.run.steps, "step")]
    device = run.device.name or ("CPU" if run.device.kind == "cpu" else "GPU")
    room = look.width - sum(cells(part) + 3 for part in fixed) - 3
    source = shorten(job.source, max(room - cells(device), 8), middle=True)
    parts = (fixed[0], source, *fixed[1:], shorten(device, max(room - cells(source), 8)))
    return Block((line(shorten("   ".join(part for part in parts if part), look.width), "quiet"),))


def blames(job: JobReport, look: Look) -> list[Block]:
    """Who the ranks wait for, how long and why: what takes longer there than on the others."""
    known = [blame for blame in job.blames if blame.kind != NOTHING]
    found = known if look.verbose else known[:BLAMES]
    if not found:
        return []
    head = line(f"{INDENT}{pad('who is late', WHO)}{'ranks wait':>12}{'of waiting':>12}", "head")
    first, *others = (tuple(_blame(job, blame, look)) for blame in found)
    return [Block((head, *first), tuple(others), gap=True, hint=False)]


def _blame(job: JobReport, blame: Blame, look: Look) -> list[Line]:
    who = shorten(words.blame_title(blame), WHO - 1)
    figures = f"{words.blame_wait(job, blame):>12}{quantities.percent(blame.share, 0):>12}"
    place = f"  {blame.place}" if blame.place else ""
    rows = [line(shorten(f"{INDENT}{pad(who, WHO)}{figures}{place}", look.width), "number")]
    causes, start = words.blame_causes(blame), "against the others: "
    room = look.width - 2 * len(INDENT)
    told = ", ".join(causes) if look.verbose else as_many(causes, room - len(start)) if causes else ""
    return rows + [line(f"{INDENT * 2}{row}") for row in wrap(start + told if told else blame.sentence, room)]


def number(job: JobReport, look: Look) -> Block:
    """MFU over the ranks, the step, where it goes, and the waiting for other ranks."""
    room = look.width - 2 * len(INDENT) - 16
    run = as_run(job)
    label, text = words.headline(job)
    step_label, step_text = wording.step_time(run, brief=not look.verbose)
    rows = [(label, text), (step_label, step_text), ("ranks wait", words.waiting(job, brief=not look.verbose))]
    split = sorted((row for row in wording.buckets(run) if row.tenths >= _TOLD), key=lambda row: -row.tenths)
    shares = [f"{row.label} {quantities.share(row.tenths, 1000)}" for row in split]
    rows += [("mean rank", ", ".join(shares))] if shares and not look.verbose else []
    most = look.at_most(1 if look.tight > 1 else 3)
    told = [
        (name, wrap(value if most is None else whole_parts(value, room, most), room, lines=most))
        for name, value in rows
    ]
    return Block(tuple(labelled(told, max(len(name) for name, _ in rows) + 2)), gap=True)


def collectives(job: JobReport, look: Look) -> list[Block]:
    """The collectives of each group and size: what they cost when nobody is late, and what waiting adds."""
    rows = words.collective_rows(words.worth_showing(job))
    if not rows:
        return []
    shown = rows if look.verbose else rows[:ROWS]
    rest = f"{INDENT}and {len(rows) - len(shown)} more kinds" if len(rows) > len(shown) else ""
    return [_table(words.COLLECTIVE_HEADS, shown, look, least=1, spare=("exposed", "calls")), *_quiet(rest)]


def ranks(job: JobReport, look: Look) -> list[Block]:
    """The ranks to look at; with -v all of them."""
    chosen = words.notable_ranks(job, MOST_RANKS if look.verbose else RANKS)
    rows = [words.rank_cells(entry) for entry in chosen]
    if not rows:
        return []
    rest = len(job.ranks) - len(rows)
    more = f"{INDENT}and {rest:,} more ranks (-o page.html has more)" if look.verbose and rest else ""
    table = _table(words.RANK_HEADS, rows, look, least=2, spare=("its first finding",))
    return [replace(table, gap=look.verbose), *_quiet(more)]


def _quiet(text: str) -> list[Block]:
    return [Block((line(text, "quiet"),))] if text else []


def method(job: JobReport, look: Look) -> list[Block]:
    """What the replay of the job answers besides, who was left out, and with -v how the ranks were matched."""
    told = [f"With {text}" for text in words.what_ifs(job)] + words.left_out(job)
    if look.verbose:
        told += [f"{name}: {value}" for name, value in words.method(job)]
    entries = [
        tuple(line(INDENT + row, "quiet") for row in wrap(text, look.width - len(INDENT), lines=look.at_most(2)))
        for text in told
    ]
    return [Block((), tuple(entries), gap=True, urgency=0, hint=False)]


def _table(
    heads: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    look: Look,
    *,
    least: int,
    spare: tuple[str, ...] = (),
) -> Block:
    """Rows in columns, without the columns that are empty; the last column takes what is left of the line.

    Args:
        heads: of the columns; all but the first and the last are figures.
        rows: the cells, not empty.
        look: how the screen is.
        least: rows that are always shown.
        spare: columns that are left out, one after the other, where the last one would have too little room.
    """
    used = words.columns(rows, tuple(heads))
    lines = _aligned(heads, rows, used, look)
    for name in spare:
        if all(not text.endswith("...") for text in lines):
            break
        used = [i for i in used if heads[i] != name]
        lines = _aligned(heads, rows, used, look)
    shown = [line(text, "" if number_of else "head") for number_of, text in enumerate(lines)]
    return Block(tuple(shown[: least + 1]), tuple((row,) for row in shown[least + 1 :]), gap=True, hint=False)


def _aligned(heads: Sequence[str], rows: Sequence[tuple[str, ...]], used: Sequence[int], look: Look) -> list[str]:
    table = [[row[i] for i in used] for row in (tuple(heads), *rows)]
    widths = [max(cells(row[i]) for row in table) for i in range(len(used))]
    widths[0] = min(widths[0], look.width // 3)
    lines = []
    for row in table:
        figures = (" " * (width - cells(cell)) + cell for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        left = INDENT + "  ".join((pad(shorten(row[0], widths[0]), widths[0]), *figures))
        lines.append(f"{left}  {shorten(row[-1], look.width - cells(left) - 2)}".rstrip())
    return lines
