"""The page's pictures can be read without colour, in any light, by any eyes."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from mfu_doctor.render.html.svg import patterns
from mfu_doctor.result.step import BUCKETS, IDLE_CAUSES
from tests.colours import SIGHT, contrast, lab, palette


def test_every_idle_cause_has_a_pattern_of_its_own() -> None:
    """Causes are told apart without colour."""
    drawn = str(patterns("s"))
    shapes = re.findall(r'<pattern[^>]*id="s-(\w+)"[^>]*>(.*?)</pattern>', drawn)
    assert {name for name, _ in shapes} == set(IDLE_CAUSES)
    assert len({shape for _, shape in shapes}) == len(IDLE_CAUSES)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("scheme", [0, 1])
def test_buckets_differ_for_every_kind_of_sight(sight: str, scheme: int) -> None:
    """Any two buckets differ by ten just noticeable differences (CIE76), whatever the reader's eyes."""
    colours = palette(scheme)
    for one, other in combinations(BUCKETS, 2):
        distance = np.linalg.norm(lab(colours[one], SIGHT[sight]) - lab(colours[other], SIGHT[sight]))
        assert distance > 10, (one, other, float(distance))


@pytest.mark.parametrize("scheme", [0, 1])
def test_bars_and_their_labels_stand_out(scheme: int) -> None:
    """WCAG 2.2, 1.4.11 and 1.4.3: bars 3:1 on their card, labels 4.5:1 on their bar."""
    colours = palette(scheme)
    for bucket in ("compute", "communication", "memory_copy", "data_loading"):
        assert contrast(colours[bucket], colours["card"]) >= 3
        assert contrast(colours["on"], colours[bucket]) >= 4.5
    for host in ("host", "host-forward", "host-backward", "host-optimizer", "host-wait", "compute-2", "compute-3"):
        assert contrast(colours["on-tint"], colours[host]) >= 4.5, host
    assert contrast(colours["hatch"], colours["idle"]) >= 3
