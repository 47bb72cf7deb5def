"""The examples run: unchanged scripts under `run_script`, and the one-line block."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.capture.programs import read
from tests.capture.zygote import ROOT, Zygote

EXAMPLES = ROOT / "examples"
SMALL = ["--steps", "9", "--batch", "2", "--block", "16", "--width", "16", "--layers", "1"]

RUN = """
import sys
from mfu_doctor.session.run_script import RunOptions, run_script
sys.exit(run_script(sys.argv[1], sys.argv[2:], options=RunOptions(output="run.pt.trace.json.gz", print_report=False,
                                                               skip=2, timed=2, warmup=1, active=2)))
"""


@pytest.mark.parametrize("fault", ["none", "slow-loader", "sync", "tiny-batch", "python"])
def test_nanogpt_runs_unchanged_with_each_fault(zygote: Zygote, tmp_path: Path, fault: str) -> None:
    ran = zygote.run(RUN, tmp_path, str(EXAMPLES / "nanogpt.py"), "--fault", fault, *SMALL)
    assert ran.code == 0, ran.err
    facts = read(tmp_path / "run.pt.trace.json.gz").facts
    assert facts.step_source == "optimizer"
    assert [(window.kind, window.steps) for window in facts.windows] == [("timing", 2), ("shapes", 1)]
    assert facts.batch_shape == (1 if fault == "tiny-batch" else 2, 16)
    if fault == "slow-loader":
        assert (facts.loaders[0].wait_s or 0) > 0.01
    assert "import mfu_doctor" not in (EXAMPLES / "nanogpt.py").read_text()


def test_resnet_records_itself(zygote: Zygote, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "resnet.py", tmp_path / "resnet.py")
    program = "import runpy, sys; sys.argv[0] = 'resnet.py'; runpy.run_path('resnet.py', run_name='__main__')"
    ran = zygote.run(program, tmp_path, "--steps", "9", "--batch", "2", "-o", "r.pt.trace.json.gz")
    assert ran.code == 0, ran.err
    assert "loss" in ran.out
    facts = read(tmp_path / "r.pt.trace.json.gz").facts
    assert facts.site is not None
    assert facts.site.startswith("resnet.py:")
    assert {window.kind for window in facts.windows} == {"timing", "shapes"}
