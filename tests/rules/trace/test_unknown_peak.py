"""unknown-peak: a device that no table knows, unless its user says what it can do."""

from __future__ import annotations

from mfu_doctor.analysis.run import Options, Run
from mfu_doctor.rules.trace.unknown_peak import unknown_peak
from tests.rules.judging import caution, run_of, silent
from tests.rules.trace.drawing import loop
from tests.timeline import Timeline


def unheard_of() -> Timeline:
    drawn = loop()
    drawn.header["deviceProperties"] = [{"id": 0, "name": "Frobnicator 9000"}]
    return drawn


def test_unknown_peak() -> None:
    assert "No peak is known" in caution(unknown_peak, run_of(unheard_of()))


def test_a_peak_that_the_user_gives_is_known() -> None:
    silent(unknown_peak, Run(unheard_of().trace(), Options(peak_flops=1e12)))
