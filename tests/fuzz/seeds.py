"""Traces to begin with: small fixtures and timelines to mutate, and documents drawn over the format."""

from __future__ import annotations

import gzip
import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.strategies import traces
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
    return [*found, *(json.dumps(_timeline(us).json()).encode() for us in (5, 300))]


def _timeline(us: int) -> Timeline:
    timeline = Timeline()
    for _ in range(5):
        with timeline.step():
            timeline.fetch(us)
            timeline.op("aten::mm", kernel=100)
            timeline.op("aten::item")
            timeline.item()
            timeline.sync()
    return timeline


def drawn(number: int, count: int, *, strange: bool = True) -> list[dict[str, Any]]:
    """So many documents of the strategy, the same ones for the same number."""
    found: list[dict[str, Any]] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(traces(strange=strange))
    def draw(document: dict[str, Any]) -> None:
        found.append(document)

    draw()
    return found
