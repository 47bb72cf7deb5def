"""The sentences and table cells of a job's report, once for terminal, markdown and page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from msgspec import Struct

from mfu_doctor import quantities
from mfu_doctor.quantities import parts
from mfu_doctor.render.words.text import EM_DASH
from mfu_doctor.result.bottleneck import named
from mfu_doctor.result.job import NO_SKEW, Blame, CollectiveRow, JobReport, RankRow, WhatIf
from mfu_doctor.result.job_as_run import rank_words

COLLECTIVE_HEADS = ("collective", "size", "calls", "time", "wait", "transfer", "exposed", "bus bandwidth")
RANK_HEADS = ("rank", "step", "MFU", "computes", "waits", "waited for", "its first finding")
LEAST_SHARE = 0.005  # of the step: what is worth less is not in a table
_NEARLY_ALL = 0.9  # of the waiting: what goes with it is then not worth a word of its own


class RankLine(Struct, frozen=True):
    """A rank in the table, and why it is one of the few that are shown."""

    row: RankRow
    why: str


def headline(job: JobReport) -> tuple[str, str]:
    """The MFU label, and of what it is the mean."""
    if job.mfu is None:
        return "MFU unknown", job.mfu_reason or "no rank knows its FLOPs or its peak"
    low, high = job.mfu_low, job.mfu_high
    span = "" if low is None or high is None else quantities.percent_range(low, high, 3)
    told = [f"mean of {quantities.counted(len(job.ranks), 'rank')}", *([span] if "-" in span else [])]
    measured = "; * of a peak measured here" if job.peak_measured else ""
    return f"MFU{'*' * job.peak_measured} {quantities.percent(job.mfu)}", ", ".join(told) + measured


def size_of_job(job: JobReport) -> str:
    """How many ranks were read: "8 ranks", "2 of 128 ranks"."""
    read = len(job.ranks)
    return f"{read} of {job.world_size} ranks" if job.world_size and job.world_size != read else f"{read} ranks"


def waiting(job: JobReport, *, brief: bool = False) -> str:
    """How much ranks wait for each other, on average; why that is not known. `brief`: without what of it delays the device.

    A step in which ranks wait for each other by turns is longer by less than they wait.
    """
    step = job.step_time_s.stated if job.step_time_s is not None else job.breakdown.step_s
    if job.wait_s is None:
        return f"not known: {job.matching.note or 'no collective could be matched'}"
    wait = f"{quantities.duration(job.wait_s)} of a step ({quantities.share(job.wait_s, step)})"
    without = next((what for what in job.what_ifs if what.name == NO_SKEW), None)
    longer = (
        f"; the step is {quantities.duration(without.saving_s, 2)} longer for that"
        if _is_less(without, job.wait_s)
        else ""
    )
    text = f"{wait}, mean of all ranks{longer}"
    if job.exposed_wait_s is not None and not brief:
        text += f"; {quantities.duration(job.exposed_wait_s)} of the waiting with nothing else on the device"
    return text


def _is_less(without: WhatIf | None, wait_s: float) -> TypeGuard[WhatIf]:
    """Whether the step would be shorter without the waiting, but not by all of it."""
    return without is not None and 0 < without.saving_s < _NEARLY_ALL * wait_s


def blame_title(blame: Blame) -> str:
    """Who is late, in a few words: "rank 5 (straggler)"."""
    named = rank_words(blame.ranks) if blame.ranks else "no rank alone"
    return f"{named} ({blame.kind})"


def blame_wait(job: JobReport, blame: Blame) -> str:
    """What ranks wait for them, as a part of what `waiting` says: the mean over all ranks, late ones too."""
    return quantities.duration(blame.share * job.wait_s if job.wait_s is not None else blame.wait_s)


def blame_causes(blame: Blame) -> list[str]:
    """What takes longer there than on the others, largest first: "data loading +41 ms", "Python +3.1 ms"."""
    ranked = sorted(blame.causes.items(), key=lambda item: -abs(item[1]))
    worth = [(name, value) for name, value in ranked if abs(value) >= 0.01 * max(blame.wait_s, 1e-9)]
    return [f"{named(name)} {signed(value)}" for name, value in worth]


def signed(seconds: float) -> str:
    """A difference of two times: +41 ms."""
    return f"{'-' if seconds < 0 else '+'}{quantities.duration(abs(seconds), 2)}"


def collective_rows(rows: Sequence[CollectiveRow]) -> list[tuple[str, ...]]:
    """The table of collectives, under `COLLECTIVE_HEADS`. Where all were matched, wait and transfer are the whole time."""
    is_split = all(row.wait_s is not None and row.transfer_s is not None for row in rows)
    return [_collective(row, "" if is_split else _time(row.duration_s)) for row in rows]


def _collective(row: CollectiveRow, time: str) -> tuple[str, ...]:
    size = EM_DASH if row.size_bytes is None else quantities.size_of(row.size_bytes)
    times = (time, _time(row.wait_s), _time(row.transfer_s), _time(row.exposed_s))
    name = f"{row.group} {row.kind}".strip()
    return (name, size, quantities.number(row.count), *times, _of_link(row.bus_bytes_s, row.link_bytes_s))


def rank_cells(line: RankLine) -> tuple[str, ...]:
    """One row of the table of ranks, under `RANK_HEADS`."""
    row = line.row
    mfu = EM_DASH if row.mfu is None else quantities.percent(row.mfu)
    times = (_time(row.breakdown.compute), _time(row.wait_s), _time(row.waited_for_s))
    return (f"{row.rank} {line.why}".strip(), _time(row.step_s), mfu, *times, row.finding or "")


def notable_ranks(job: JobReport, most: int) -> list[RankLine]:
    """The ranks to look at: those that others wait for, the one that stands for all, and the one that waits most."""
    blamed = [rank for blame in job.blames for rank in blame.ranks]
    by_wait = sorted(job.ranks, key=lambda row: -(row.wait_s or 0.0))
    chosen: dict[int, str] = dict.fromkeys(blamed[: max(most - 2, 1)], "late")
    if job.typical is not None:
        chosen.setdefault(job.typical, "typical")
    if by_wait and by_wait[0].wait_s:
        chosen.setdefault(by_wait[0].rank, "waits most")
    for row in sorted(job.ranks, key=lambda row: -row.waited_for_s):
        if len(chosen) < most:
            chosen.setdefault(row.rank, "")
    rows, order = {row.rank: row for row in job.ranks}, ("late", "typical", "waits most", "")
    ranked = sorted(chosen.items(), key=lambda entry: (order.index(entry[1]), entry[0]))
    return [RankLine(rows[rank], why) for rank, why in ranked if rank in rows]


def worth_showing(job: JobReport) -> list[CollectiveRow]:
    """The collectives that take a part of the step worth a row, longest first."""
    step = job.step_time_s.stated if job.step_time_s is not None else job.breakdown.step_s
    ranked = sorted(job.collectives, key=lambda row: -row.duration_s)
    return [row for row in ranked if row.duration_s >= LEAST_SHARE * step] or ranked[:1]


def what_ifs(job: JobReport) -> list[str]:
    """What the replay of the job answers: "no skew between ranks: 369 ms a step (43 ms less)"."""
    told = []
    for what in job.what_ifs:
        if what.saving_s > 0:
            whole = what.step_s + what.saving_s
            then = parts.part_alone(parts.left_of(whole, [what.saving_s]), whole)
            told.append(f"{what.name}: {then} a step ({parts.part_alone(what.saving_s, whole)} less)")
    return told


def left_out(job: JobReport) -> list[str]:
    """One sentence on each file that is no part of the diagnosis, and one on ranks without a trace."""
    told = [f"left out: {_named(out.rank, out.trace)}: {out.reason}" for out in job.left_out]
    known = {out.rank for out in job.left_out}
    absent = tuple(rank for rank in job.missing if rank not in known)
    unlisted = (job.world_size or 0) - len(job.ranks) - len(job.missing)  # of very many the first are listed
    who = rank_words(absent) if unlisted <= 0 else quantities.counted(len(absent) + unlisted, "rank")
    return [*told, f"without a trace: {who}"] if absent else told


def method(job: JobReport) -> list[tuple[str, str]]:
    """How the ranks were brought together, as names and values."""
    clock, matching, replay = job.clock, job.matching, job.replay
    matched = (
        f"{matching.matched} collectives by {matching.method}" if matching.method else f"{matching.matched} collectives"
    )
    unmatched = f"; {matching.unmatched} could not be" if matching.unmatched else ""
    error = replay.error
    rows = [
        ("waiting for ranks", waiting(job)),
        ("matched", f"{matched}{unmatched}{f'; {matching.note}' if matching.note else ''}"),
        ("clocks", _clock(clock.resolution_s, clock.method)),
        ("replay", replay.reason or ("" if error is None else f"error {quantities.signed_percent(error)}")),
    ]
    return [(name, value) for name, value in rows if value]


def columns(rows: Sequence[tuple[str, ...]], heads: tuple[str, ...]) -> list[int]:
    """Indices of the columns that have anything in them."""
    return [i for i in range(len(heads)) if any(row[i] not in ("", EM_DASH) for row in rows)]


def filled(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """A table, its heads first, without the columns that have nothing in them."""
    used = columns(rows, heads)
    return [tuple(row[i] for i in used) for row in (heads, *rows)]


def _clock(resolution_s: float | None, how: str) -> str:
    if resolution_s is None:
        return how or "not brought together"
    return f"equal within {quantities.duration(resolution_s, 2)}" + (f" ({how})" if how else "")


def _named(rank: int | None, trace: str | None) -> str:
    who = "" if rank is None else f"rank {rank}"
    return f"{who} ({trace})" if who and trace else who or trace or "a file"


def _time(seconds: float | None) -> str:
    return EM_DASH if seconds is None else quantities.duration(seconds)


def _of_link(rate: float | None, link: float | None) -> str:
    if rate is None:
        return EM_DASH
    return quantities.bandwidth(rate) + (f", {quantities.share(rate, link)} of link" if link else "")
