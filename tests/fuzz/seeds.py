"""Sound traces to mutate: those of the fixtures that are small, and drawn ones with everything that an analysis looks at."""

from __future__ import annotations

import gzip
import json

from tests.timeline import Timeline
from tests.traces import ROOT

_LARGEST = 200_000  # bytes: a mutant of more takes too long


def seeds() -> list[bytes]:
    """The plain bytes of each."""
    found = []
    for path in sorted((ROOT / "tests" / "fixtures").glob("*.json*")):
        data = path.read_bytes()
        plain = gzip.decompress(data) if path.suffix == ".gz" else data
        if len(plain) <= _LARGEST:
            found.append(plain)
    return [*found, *(json.dumps(_drawn(us).json()).encode() for us in (5, 300))]


def _drawn(us: int) -> Timeline:
    timeline = Timeline()
    for _ in range(5):
        with timeline.step():
            timeline.fetch(us)
            timeline.op("aten::mm", kernel=100)
            timeline.op("aten::item")
            timeline.item()
            timeline.sync()
    return timeline
