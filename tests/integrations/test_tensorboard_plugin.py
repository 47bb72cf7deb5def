"""A recording and its report in one folder, opened by the profiler plugin's own loader and by TensorBoard's reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("tensorboard", reason="tensorboard is not installed")

from tests.capture.programs import PRELUDE
from tests.capture.zygote import Zygote

RECORDED = """
import mfu_doctor
from mfu_doctor.integrations.tensorboard import add_reading, add_report
from torch.utils.tensorboard import SummaryWriter
with mfu_doctor.profile("runs/first/", print_report=False) as doctor:
    for x, y in loader(24):
        train(x, y)
with SummaryWriter("runs/first") as writer:
    add_report(writer, doctor.report, 24)
print("kept", __import__("json").dumps([doctor.report.metrics()]))
"""

# As the plugin's backend does it, with the name that it gives the run.
LOADED = """
import json, sys, warnings
sys.path.append(sys.argv[1])
warnings.simplefilter("ignore")
from torch_tb_profiler import consts, io
from torch_tb_profiler.profiler import RunLoader
from torch_tb_profiler.plugin import TorchProfilerPlugin
from torch_tb_profiler.utils import is_chrome_trace_file
from types import SimpleNamespace
folders = list(TorchProfilerPlugin._get_run_dirs(SimpleNamespace(logdir="runs")))
run = RunLoader("first", folders[0], io.Cache()).load()
(profile,) = run.profiles.values()
steps = profile.overview["steps"]
print("loaded", json.dumps([folders, run.views and [view.display_name for view in run.views], profile.worker,
                            len(steps["rows"]), bool(profile.operation_table_by_name)]))
"""


def told(out: str, word: str) -> list[object]:
    """What a program printed after a word."""
    line = next(line for line in out.splitlines() if line.startswith(word))
    found: list[object] = json.loads(line.removeprefix(word))
    return found


def test_tensorboard_reads_the_report_beside_the_trace(zygote: Zygote, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    ran = zygote.run(PRELUDE + RECORDED, tmp_path)
    assert ran.code == 0, ran.err
    (metrics,) = told(ran.out, "kept")
    folder = tmp_path / "runs" / "first"
    assert len(list(folder.glob("*.pt.trace.json.gz"))) == 1
    events = EventAccumulator(str(folder))
    events.Reload()
    kept = {name: events.Scalars(name)[0].value for name in events.Tags()["scalars"]}
    assert kept == pytest.approx(metrics)
    (text,) = make_ndarray(events.Tensors("mfu_doctor/report/text_summary")[0].tensor_proto)
    assert "|" in text.decode()
    assert text.decode().startswith("### mfu-doctor: ")


def test_the_plugin_loads_the_trace_beside_the_report(zygote: Zygote, tmp_path: Path) -> None:
    plugin = pytest.importorskip(
        "torch_tb_profiler", reason="torch-tb-profiler is not installed: pip install mfu-doctor[tensorboard]"
    )
    recorded = zygote.run(PRELUDE + RECORDED, tmp_path)
    assert recorded.code == 0, recorded.err
    found_at = str(Path(plugin.__file__).parents[1])
    ran = subprocess.run([sys.executable, "-c", LOADED, found_at], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    folders, views, worker, steps, operators = told(ran.stdout, "loaded")
    assert folders == ["runs/first"]
    assert isinstance(views, list)
    assert {"Overview", "Operator", "Trace"} <= set(views)
    assert "_" in str(worker)
    assert steps == 6  # five, and one with shapes
    assert operators is True
