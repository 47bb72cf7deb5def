"""Draws the traces of a large job from those of a small one: more ranks with work of other lengths, skewed clocks, a straggler.

    python benchmarks/make_job.py 64 /tmp/job64 [folder of real ranks] [--copies 4]

Time between two collectives is stretched by a little for each rank and segment, and by a lot for the straggler; a collective then
begins for a rank when it comes, and ends for all a transfer after the last one has come. Every event is moved by the same map of
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
GAP_US = 100  # between two copies of the recorded steps


@dataclass(frozen=True)
class Recorded:
    """One real rank: its file without the events, its events, and (begin, end) of its collectives in order."""

    head: dict[str, Any]
    events: list[dict[str, Any]]
    collectives: list[tuple[float, float]]


def read_rank(path: Path) -> Recorded:
    """One real rank."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as stream:
        head = json.load(stream)
    events = head.pop("traceEvents")
    kernels = [e for e in events if e.get("cat") in ("kernel", "Kernel") and "nccl" in e["name"].lower()]
    spans = sorted((float(e["ts"]), float(e["ts"]) + float(e["dur"])) for e in kernels)
    return Recorded(head, events, spans)


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
        knots = _knots(recorded, copies, arrive[rank], end)
        path = folder / f"rank{rank}.pt.trace.json"
        text = _rank_text(recorded, knots, copies, rank, ranks, float(skew[rank // OF_A_HOST]))
        path.write_text(text, encoding="utf-8")
        written += len(text)
    return written


def _period(recorded: Recorded) -> tuple[float, float]:
    """Where the events of a rank begin, and how long a copy of them is."""
    timed = [e for e in recorded.events if "ts" in e and "dur" in e]
    first = min(float(e["ts"]) for e in timed)
    return first, max(float(e["ts"]) + float(e["dur"]) for e in timed) - first + GAP_US


def _spans(recorded: Recorded, copies: int) -> np.ndarray[Any, Any]:
    """Begin and end of every collective in every copy, from the begin of the first event, shape (n, 2)."""
    first, period = _period(recorded)
    one = np.array(recorded.collectives) - first
    return np.concatenate([one + period * copy for copy in range(copies)])


def _new_times(
    of: Sequence[Recorded], copies: int, late: int, dice: np.random.Generator
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """When each rank comes to each collective, and when that ends for all."""
    spans = np.stack([_spans(recorded, copies) for recorded in of])
    before = np.diff(np.concatenate([np.zeros((len(of), 1)), spans[:, :, 1]], axis=1), axis=1)
    own = np.maximum(spans[:, :, 0] - (spans[:, :, 1] - before), 1.0)
    own *= np.exp(dice.normal(0.0, JITTER, own.shape))
    own[late] *= 1 + LATE
    transfer = (spans[:, :, 1] - spans[:, :, 0]).min(axis=0)
    arrive, end = np.zeros(own.shape), np.zeros(own.shape[1])
    last = np.zeros(len(of))
    for k in range(own.shape[1]):
        arrive[:, k] = last + own[:, k]
        end[k] = arrive[:, k].max() + transfer[k]
        last[:] = end[k]
    return arrive, end


def _knots(
    recorded: Recorded, copies: int, arrive: np.ndarray[Any, Any], end: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Recorded times and the times that they are moved to."""
    spans = _spans(recorded, copies)
    old = np.concatenate([[0.0], spans.ravel(), [spans[-1, 1] + 1e7]])
    new = np.concatenate([[0.0], np.stack([arrive, end], axis=1).ravel(), [end[-1] + 1e7]])
    return old, new


def _rank_text(
    recorded: Recorded,
    knots: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    copies: int,
    rank: int,
    ranks: int,
    skew_us: float,
) -> str:
    first, period = _period(recorded)
    timed = [e for e in recorded.events if "ts" in e]
    start = np.array([float(e["ts"]) for e in timed]) - first
    stop = start + np.array([float(e.get("dur", 0)) for e in timed])
    rows = [json.dumps(e) for e in recorded.events if "ts" not in e]
    for copy in range(copies):
        begun = np.interp(start + period * copy, *knots)
        ended = np.interp(stop + period * copy, *knots)
        rows += [_event(e, b, d, copy, first + skew_us) for e, b, d in zip(timed, begun, ended - begun, strict=True)]
    info = {"backend": "nccl", "rank": rank, "world_size": ranks}
    head = recorded.head | {"distributedInfo": info}
    return json.dumps(head)[:-1] + ', "traceEvents": [\n' + ",\n".join(rows) + "\n]}\n"


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
