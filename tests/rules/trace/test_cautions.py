"""What all cautions have in common: they save nothing, and a sound trace has none."""

from __future__ import annotations

from mfu_doctor.rules.catalogue import RULES
from mfu_doctor.rules.contract import Finding
from tests.rules.judging import run_of
from tests.rules.trace.drawing import loop

EVERY = [rule for rule in RULES if rule.caution and not rule.needs]


def test_a_sound_trace_has_no_caution() -> None:
    run = run_of(loop())
    assert [rule.name for rule in EVERY if isinstance(rule.judge(run), Finding)] == []
