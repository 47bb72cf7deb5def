"""Two blocks in one process, and processes that it starts: each report is its own, and says where the training is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfu_doctor.api.report import Report
from tests.capture.programs import PRELUDE, STEP, with_and_without
from tests.capture.zygote import Zygote

TWO = """
def training(width, fetched=True):
    global model, optimizer
    model = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for x, y in loader(30) if fetched else list(loader(30)): train(x, y)
def kept(doctor, name):
    if PLAIN: return
    assert doctor.report is not None, doctor.notes
    doctor.report.save(name)
"""

# How the blocks are written, the width of the second model, and the name under which its report is kept.
WAYS = {
    "the reports are read after both": """
with block() as first: training(16)
with block() as second: training(32, fetched=False)
kept(second, "second.json"); kept(first, "first.json")
""",
    "one recorder is used twice": """
doctor = block()
with doctor as first: training(16)
kept(first, "first.json")
with doctor as second: training(32, fetched=False)
kept(second, "second.json")
""",
}


@pytest.mark.parametrize("name", WAYS)
def test_each_report_is_that_of_its_block(zygote: Zygote, tmp_path: Path, name: str) -> None:
    ended, _ = with_and_without(zygote, tmp_path, TWO + WAYS[name])
    assert ended.code == 0, ended.err
    first, second = (Report.load(tmp_path / "ours" / f"{which}.json") for which in ("first", "second"))
    assert first.mfu.model_flops == STEP
    assert second.mfu.model_flops == 2 * STEP


SPAWNED = """
import multiprocessing
spent = time.process_time()
def fit(steps):
    end = time.process_time() + 1 + spent  # more than the one that waits, on a slow processor, too
    while time.process_time() < end: train(torch.ones(4, 8), torch.arange(4))
if __name__ == "__main__":
    with block(print_report=True):
        processes = [multiprocessing.get_context("fork").Process(target=fit, args=(9,)) for _ in range(2)]
        for process in processes: process.start()
        for process in processes: process.join()
"""


def test_children_that_train_are_named(zygote: Zygote, tmp_path: Path) -> None:
    """The report of a process that only waits would be of nothing; its reader must learn where the work is."""
    ended = zygote.run(PRELUDE + SPAWNED, tmp_path)
    assert ended.code == 0, ended.err
    assert "Its child processes computed for" in ended.err
    assert "2 processes ran fit (program.py:" in ended.err
    assert ended.err.rstrip().endswith('put `with mfu_doctor.profile("child.json.gz"):` around the loop in fit()')


def test_a_script_that_another_one_starts_is_named(zygote: Zygote, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import sys, time\nend = 1 + float(sys.argv[2])\nwhile time.process_time() < end: pass\n"
    )
    body = """
import subprocess
with block() as doctor:
    subprocess.run([sys.executable, "train.py", "--epochs", str(2 * time.process_time())], check=True)
print(doctor.notes[0], file=sys.stderr)
"""
    ended = zygote.run(PRELUDE + body, tmp_path)
    assert ended.err.rstrip().endswith(
        "1 process ran train.py. To record one, start it as `python -m mfu_doctor run train.py`"
    )
