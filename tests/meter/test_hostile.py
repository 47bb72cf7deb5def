"""Every hostile situation of the recorder again with a meter, and with both: the program ends as it does alone."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from tests.capture import test_handed_over as handed_over
from tests.capture import test_hostile_programs as hostile
from tests.capture import test_other_profilers as profilers
from tests.capture import test_sacred as sacred
from tests.capture import test_surroundings as surroundings
from tests.capture.programs import LOOP, PRELUDE
from tests.capture.zygote import Zygote

METERED = (
    PRELUDE
    + """
METER, alone, BESIDE = None, train, "beside" in sys.argv

class block:
    def __init__(self, path="out.pt.trace.json.gz", **options):
        self.path, self.options = path, {"print_report": False, **options}
    def __enter__(self):
        global METER
        if PLAIN:
            return Nothing()
        import mfu_doctor
        METER = mfu_doctor.Meter(model, peak_flops=1e9)
        METER._ledger.counter._pause = 13  # so that it records what happens in the step of number 15
        self.recorder = mfu_doctor.profile(self.path, enabled=BESIDE, **self.options)
        recorder = self.recorder.__enter__()
        return recorder if BESIDE else Nothing()
    def __exit__(self, *error):
        if not PLAIN:
            METER.close()
            self.recorder.__exit__(*error)

def train(x, y):
    alone(x, y)
    if METER is not None:
        METER.step()
"""
)

# Those that one test of the recorder is about.
OF_ONE_TEST = {
    "a Python profiler": hostile.PROFILED,
    "little room for recursion": LOOP.replace("        train", "        sys.setrecursionlimit(90); train"),
    "a generator that nobody finishes": surroundings.GENERATOR,
    "no directory to write in": LOOP.replace(
        "    for", "    import tempfile; tempfile.tempdir = '/proc/nowhere'\n    for"
    ),
    "a working directory that is gone": "import shutil\nos.mkdir('gone'); os.chdir('gone'); shutil.rmtree(os.getcwd())\n"
    + LOOP,
}

SITUATIONS: dict[str, str] = {
    f"{source}-{name}": before + (given[0] if isinstance(given, tuple) else given)
    for source, before, programs in (
        ("program", "", hostile.PROGRAMS),
        ("ending", "", sacred.ENDINGS),
        ("abrupt", "", sacred.ABRUPT),
        ("company", "", sacred.COMPANY),
        ("profiler", profilers.EVENTS, profilers.CASES),
        ("surroundings", "", surroundings.WHOLE),
        ("span", handed_over.SPANS, handed_over.LONG),
        ("alone", "", OF_ONE_TEST),
    )
    for name, given in programs.items()
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_program_does_not_notice_the_meter(zygote: Zygote, tmp_path: Path, name: str) -> None:
    body = SITUATIONS[name]
    runs = [("plain",), (), ("beside",)]  # alone, with a meter, and with a recording besides
    for options in runs:
        (tmp_path / "".join(options)).mkdir(exist_ok=True)
    plain, *watched = [zygote.run(METERED + body, tmp_path / "".join(options), *options) for options in runs]
    for ran in watched:
        assert (ran.code, ran.losses) == (plain.code, plain.losses), ran.err
