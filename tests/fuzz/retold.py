"""The same recording told in another way: what must not change its report, whoever wrote, merged or converted the file."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

Document = dict[str, Any]
Retelling = Callable[[Document, random.Random], bytes]

_MEMBERS = 5  # parts of a gzip file that was written bit by bit


def written(document: Document) -> bytes:
    """The document as a file; a lone surrogate stays the escape that it is."""
    return json.dumps(document).encode()


def with_events(document: Document, events: list[Any]) -> Document:
    """The document with other events at the same place."""
    return document | {"traceEvents": events}


def shuffled(document: Document, rng: random.Random) -> Document:
    """Its events in another order."""
    return with_events(document, rng.sample(document["traceEvents"], len(document["traceEvents"])))


def shifted(document: Document, microseconds: int) -> Document:
    """Its events so much later."""
    return with_events(document, [event | {"ts": event["ts"] + microseconds} for event in document["traceEvents"]])


def _later(microseconds: int) -> Retelling:
    return lambda document, _: written(shifted(document, microseconds))


def _members(document: Document, rng: random.Random) -> bytes:
    """Compressed in several parts, as a writer does that appends to its file."""
    data = written(document)
    cuts = [0, *sorted(rng.randrange(len(data) + 1) for _ in range(_MEMBERS - 1)), len(data)]
    return b"".join(gzip.compress(data[i:j]) for i, j in pairwise(cuts))


def _windows_lines(document: Document, _: random.Random) -> bytes:
    return json.dumps(document, indent=1).replace("\n", "\r\n").encode()


def _with_metadata(document: Document, rng: random.Random) -> bytes:
    """With names of processes and threads, each twice: what Kineto writes, and writes again after a merge."""
    named: list[Any] = [
        {"ph": "M", "name": kind, "pid": pid, "tid": 0, "ts": 0, "args": {"name": f"python {pid}", "sort_index": pid}}
        for kind in ("process_name", "thread_name", "process_sort_index")
        for pid in (0, 1)
    ]
    return written(shuffled(with_events(document, [*named, *named, *document["traceEvents"]]), rng))


def _numbers(document: Document, _: random.Random) -> bytes:
    """With whole times as decimals."""
    times = ("ts", "dur")
    events = [
        e | {key: float(e[key]) for key in times if type(e.get(key)) is int and abs(e[key]) < 2**53}
        for e in document["traceEvents"]
    ]
    return written(with_events(document, events))


def _texts(document: Document, _: random.Random) -> bytes:
    """With the ids of processes and threads in quotes."""
    ids = ("pid", "tid")
    events = [e | {key: str(e[key]) for key in ids if type(e.get(key)) is int} for e in document["traceEvents"]]
    return written(with_events(document, events))


def _other_keys(document: Document, rng: random.Random) -> bytes:
    """With the keys of each object, and those beside the events, in another order."""

    def mixed(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: mixed(node[key]) for key in rng.sample(list(node), len(node))}
        return [mixed(part) for part in node] if isinstance(node, list) else node

    return written(mixed(document))


RETELLINGS: dict[str, Retelling] = {
    "shuffled": lambda document, rng: written(shuffled(document, rng)),
    "reversed": lambda document, _: written(with_events(document, document["traceEvents"][::-1])),
    "a second later": _later(10**6),
    "since 1970": _later(1_700_000_000_000_000),
    "before the clock's zero": _later(-(10**12)),
    "compressed": lambda document, _: gzip.compress(written(document)),
    "compressed in parts": _members,
    "compact": lambda document, _: json.dumps(document, separators=(",", ":")).encode(),
    "indented": lambda document, _: json.dumps(document, indent=4).encode(),
    "lines of Windows": _windows_lines,
    "a byte order mark": lambda document, _: b"\xef\xbb\xbf" + written(document),
    "times shown in nanoseconds": lambda document, _: written(document | {"displayTimeUnit": "ns"}),
    "names of processes": _with_metadata,
    "decimals": _numbers,
    "ids in quotes": _texts,
    "other keys first": _other_keys,
}  # fmt: skip
