"""Every hostile situation of the recorder again, with a meter on: the program ends as it does alone, with the same losses."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from tests.capture import test_hostile_programs as hostile
from tests.capture import test_other_profilers as profilers
from tests.capture import test_sacred as sacred
from tests.capture.programs import PRELUDE
from tests.capture.zygote import Zygote

METERED = (
    PRELUDE
    + """
METER, alone = None, train

@contextlib.contextmanager
def block(*args, **options):
    global METER
    if PLAIN:
        yield Nothing()
        return
    import mfu_doctor
    with mfu_doctor.Meter(model, peak_flops=1e9) as METER:
        METER._counter._pause = 13  # so that it records what happens in the step of number 15
        yield Nothing()

def train(x, y):
    alone(x, y)
    if METER is not None:
        METER.step()
"""
)

SITUATIONS: dict[str, str] = {
    f"{source}-{name}": before + (given[0] if isinstance(given, tuple) else given)
    for source, before, programs in (
        ("program", "", hostile.PROGRAMS),
        ("ending", "", sacred.ENDINGS),
        ("abrupt", "", sacred.ABRUPT),
        ("company", "", sacred.COMPANY),
        ("profiler", profilers.EVENTS, profilers.CASES),
    )
    for name, given in programs.items()
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_program_does_not_notice_the_meter(zygote: Zygote, tmp_path: Path, name: str) -> None:
    body = SITUATIONS[name]
    folders = [tmp_path / "alone", tmp_path / "ours"]
    for folder in folders:
        folder.mkdir()
    plain = zygote.run(METERED + body, folders[0], "plain")
    watched = zygote.run(METERED + body, folders[1])
    assert (watched.code, watched.losses) == (plain.code, plain.losses), watched.err
