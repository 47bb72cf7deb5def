"""Draws the traces of a large job from those of a small one: more ranks with work of other lengths, skewed clocks, a straggler.

    python benchmarks/make_job.py 64 /tmp/job64 [folder of real ranks] [--copies 4]

What a rank does between two collectives is stretched by a little for each rank and segment, and by a lot for the straggler; a
collective then begins for a rank when it comes, and ends for all a transfer after the last one has come. What is recorded beside
it takes as long as it did; then the host waits for the device, in a call of its own. Every event is moved by the same map of
time, so order and nesting stay as they were recorded.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from make_trace import IDS, TRACES

REAL = TRACES / "v100_dlrm_8ranks"
OF_A_HOST = 8  # ranks, with one clock
JITTER = 0.03  # standard deviation of the length of a segment
LATE = 2.0  # the straggler's segments are longer by so many times: the real ranks differ by half of theirs
SKEW_US = 3_000  # clocks of hosts differ by up to this
RETURNS_US = 10  # from the end of a collective to the return of the call that waits for it
GAP_US = 100  # between two copies of the recorded steps
RUNTIME = ("cuda_runtime", "Runtime")
DEVICE = ("kernel", "Kernel", "gpu_memcpy", "gpu_memset", "Memcpy", "Memset")
WAITS, WAIT = ("Memcpy", "Synchronize"), "cudaEventSynchronize"  # in names of calls that wait for the device, and one

Floats = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Recorded:
    """One real rank.

    Attributes:
        head: its file without the events.
        events: its events.
        collectives: indices of those that are collectives, in order of their begin.
        spans: begin and end of each collective, and the moment up to its end at which its host can be held up, shape (n, 3).
        waits: thread of the host that is held up, None where a call recorded there waits already.
    """

    head: dict[str, Any]
    events: list[dict[str, Any]]
    collectives: list[int]
    spans: Floats
    waits: list[dict[str, Any] | None]


def read_rank(path: Path) -> Recorded:
    """One real rank."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as stream:
        head = json.load(stream)
    events = head.pop("traceEvents")
    kernels = [i for i, e in enumerate(events) if e.get("cat") in ("kernel", "Kernel") and "nccl" in e["name"].lower()]
    kernels.sort(key=lambda i: _span(events[i]))
    calls = [e for e in events if e.get("cat") in RUNTIME]
    spans, waits = [], []
    for begin, end in (_span(events[i]) for i in kernels):
        running = [call for call in calls if _span(call)[0] < end < _span(call)[1]]
        if any(word in call["name"] for call in running for word in WAITS):
            cut, waiter = end, None
        else:
            cut = max(begin, min((_span(call)[0] for call in running), default=end))
            waiter = max((call for call in calls if _span(call)[1] <= cut), key=_span, default=None)
        spans.append((begin, end, cut))
        waits.append(waiter)
    return Recorded(head, events, kernels, np.array(spans).reshape(-1, 3), waits)


def _span(event: dict[str, Any]) -> tuple[float, float]:
    return float(event["ts"]), float(event["ts"]) + float(event.get("dur", 0))


def draw(ranks: int, folder: Path, source: Path = REAL, *, copies: int = 1, slow: int | None = None) -> int:
    """Write the traces of so many ranks.

    Args:
        ranks: how many.
        folder: where to.
        source: folder of the real ranks.
        copies: how often each rank's steps are repeated.
        slow: the straggler; None: the one in the middle.

    Returns:
        Plain bytes of all of them.
    """
    real = [read_rank(path) for path in sorted(source.glob("rank*.json*"))]
    dice = np.random.default_rng(7)
    late = ranks // 2 if slow is None else slow
    of = [real[rank % len(real)] for rank in range(ranks)]
    arrive, end = _new_times(of, copies, late, dice)
    folder.mkdir(parents=True, exist_ok=True)
    skew = dice.uniform(-SKEW_US, SKEW_US, ranks // OF_A_HOST + 1)
    written = 0
    for rank, recorded in enumerate(of):
        text = _rank_text(
            recorded, _moves(_spans(recorded, copies), arrive[rank], end), copies, skew[rank // OF_A_HOST]
        )
        info = {"backend": "nccl", "rank": rank, "world_size": ranks}
        text = json.dumps(recorded.head | {"distributedInfo": info})[:-1] + ', "traceEvents": [\n' + text + "\n]}\n"
        (folder / f"rank{rank}.pt.trace.json").write_text(text, encoding="utf-8")
        written += len(text)
    return written


def _period(recorded: Recorded) -> tuple[float, float]:
    """Where the events of a rank begin, and how long a copy of them is."""
    timed = [e for e in recorded.events if "ts" in e and "dur" in e]
    first = min(float(e["ts"]) for e in timed)
    return first, max(float(e["ts"]) + float(e["dur"]) for e in timed) - first + GAP_US


def _spans(recorded: Recorded, copies: int) -> Floats:
    """The spans of the collectives in every copy, from the begin of the first event, shape (n, 3)."""
    first, period = _period(recorded)
    one = recorded.spans - first
    return np.concatenate([one + period * copy for copy in range(copies)])


def _new_times(of: Sequence[Recorded], copies: int, late: int, dice: np.random.Generator) -> tuple[Floats, Floats]:
    """When each rank comes to each collective, and when that ends for all."""
    spans = np.stack([_spans(recorded, copies) for recorded in of])
    begun, ended, cut = np.moveaxis(spans, 2, 0)
    own = np.maximum(begun - np.concatenate([np.zeros((len(of), 1)), cut[:, :-1]], axis=1), 1.0)
    own *= np.exp(dice.normal(0.0, JITTER, own.shape))
    own[late] *= 1 + LATE
    transfer = (ended - begun).min(axis=0)
    arrive, end = np.zeros(own.shape), np.zeros(own.shape[1])
    last = np.zeros(len(of))
    for k in range(own.shape[1]):
        arrive[:, k] = last + own[:, k]
        end[k] = arrive[:, k].max() + transfer[k]
        last[:] = end[k] + RETURNS_US
    return arrive, end


@dataclass(frozen=True)
class Moves:
    """Where to the times of a rank are moved.

    Attributes:
        begins: recorded times and new ones, of begins.
        ends: the same of ends: what ends where the host is held up has ended before that.
        collectives: begin, end, and since when the host waits for it, shape (n, 3).
    """

    begins: tuple[Floats, Floats]
    ends: tuple[Floats, Floats]
    collectives: Floats


def _moves(spans: Floats, arrive: Floats, end: Floats) -> Moves:
    begun, _, cut = spans.T
    held = arrive + np.minimum(cut - begun, end - arrive)
    before, after = np.nextafter(cut, -np.inf), np.nextafter(cut, np.inf)
    new = np.concatenate(
        [[0.0], np.stack([arrive, held, end + RETURNS_US], axis=1).ravel(), [end[-1] + RETURNS_US + 1e7]]
    )

    def old(*knots: Floats) -> Floats:
        return np.concatenate([[0.0], np.stack(knots, axis=1).ravel(), [cut[-1] + 1e7]])

    begins, ends = old(np.minimum(begun, before), before, cut), old(begun, cut, after)
    return Moves((begins, new), (ends, new), np.stack([arrive, end, held], axis=1))


def _is_cut(start: Floats, stop: Floats, spans: Floats) -> Floats:
    """What begins beside a collective and ends after the moment in which the host is held up."""
    within = np.maximum(np.searchsorted(spans[:, 0], start, side="right") - 1, 0)
    cut: Floats = (spans[within, 0] <= start) & (start < spans[within, 2]) & (spans[within, 2] < stop)
    return cut


def _rank_text(recorded: Recorded, moves: Moves, copies: int, skew_us: float) -> str:
    """The events of a rank, a line each."""
    first, period = _period(recorded)
    offset = first + skew_us
    timed = [i for i, e in enumerate(recorded.events) if "ts" in e]
    start, stop = np.array([_span(recorded.events[i]) for i in timed]).T - first
    rows = [json.dumps(e) for e in recorded.events if "ts" not in e]
    on_device = np.array([recorded.events[i].get("cat") in DEVICE for i in timed], np.bool_)
    of_copy = np.split(moves.collectives, copies)
    for copy in range(copies):
        begun = np.interp(start + period * copy, *moves.begins)
        lasts = np.maximum(np.interp(stop + period * copy, *moves.ends) - begun, 0.0)
        beside = on_device & _is_cut(start, stop, recorded.spans - first)  # the host is held up, and no kernel
        lasts = np.where(beside, np.minimum(lasts, stop - start), lasts)
        moved = dict(zip(timed, zip(begun.tolist(), lasts.tolist(), strict=True), strict=True))
        moved |= {i: (a, b - a) for i, (a, b, _) in zip(recorded.collectives, of_copy[copy].tolist(), strict=True)}
        rows += [_event(recorded.events[i], b, d, copy, offset) for i, (b, d) in moved.items()]
        for call, (_, until, since) in zip(recorded.waits, of_copy[copy].tolist(), strict=True):
            if call is not None and until > since:
                waits = {"ph": "X", "cat": call["cat"], "pid": call["pid"], "tid": call["tid"], "dur": 0}
                lasts_us = until + RETURNS_US / 2 - since
                rows.append(_event(waits | {"name": WAIT}, since, lasts_us, copy, offset))
    return ",\n".join(rows)


def _event(event: dict[str, Any], begun: float, lasts: float, copy: int, offset: float) -> str:
    moved = event | {"ts": round(begun + offset, 3)} | ({"dur": round(lasts, 3)} if "dur" in event else {})
    if copy:
        args = event.get("args") or {}
        moved["args"] = {k: v + copy * 10**7 if k in IDS and isinstance(v, int) else v for k, v in args.items()}
        if "id" in event and isinstance(event["id"], int):
            moved["id"] = event["id"] + copy * 10**7
        if event["name"].startswith("ProfilerStep#"):
            moved["name"] = f"ProfilerStep#{int(event['name'].partition('#')[2]) + copy}"
    return json.dumps(moved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ranks", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("source", type=Path, nargs="?", default=REAL)
    parser.add_argument("--copies", type=int, default=1)
    options = parser.parse_args()
    written = draw(options.ranks, options.folder, options.source, copies=options.copies)
    print(f"{options.ranks} ranks, {written / 1e6:,.0f} MB in {options.folder}")


if __name__ == "__main__":
    main()
