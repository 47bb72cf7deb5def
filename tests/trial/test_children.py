"""Real child processes: what they measure, how they fail, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.load import load_input
from mfu_doctor.result.trial import CRASHED, HUNG, NO_MEMORY, SHORT
from mfu_doctor.trial.bench import OUT_OF_TIME, Bench, Budget, Failure, Patience
from mfu_doctor.trial.command import VERB, Program
from mfu_doctor.trial.orders import ALIVE, Measured, Orders
from tests.patience import LONGEST_S, until
from tests.traces import ROOT
from tests.trial.programs import PLENTY, STEPS, TRAIN, bench, own_fix, soon_over

pytest.importorskip("torch", reason="the programs train with torch")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")


def measured(result: Measured | Failure) -> Measured:
    assert isinstance(result, Measured), result
    return result


def failed(result: Measured | Failure) -> Failure:
    assert isinstance(result, Failure)
    return result


def test_runs_are_alike_but_for_the_fix(tmp_path: Path) -> None:
    """A fix of one's own acts before the program starts."""
    name = own_fix(tmp_path, "import torch\ntorch.set_default_dtype(torch.float64)\n")
    at = bench(tmp_path, PLENTY)
    first, second, changed = measured(at.measure()), measured(at.measure()), measured(at.measure((name,)))
    assert len(first.steps_s) == len(first.losses) == STEPS
    assert first.losses == second.losses != changed.losses
    assert first.loss_steps == tuple(range(1, STEPS + 1))
    assert min(first.steps_s) > 0.002
    assert first.first_s > first.steps_s[0]
    assert (first.effects, changed.effects, first.notes) == ((), (name,), ())


def test_arguments_and_the_variable_of_a_trial_reach_the_program(tmp_path: Path) -> None:
    source = TRAIN + "assert sys.argv[1:] == ['--lr', '3'] and os.environ['MFU_DOCTOR_TRIAL'] == '1'\ntrain(9)\n"
    assert (
        len(measured(bench(tmp_path, source, "--lr", "3").measure()).steps_s) == 8
    )  # the first began with the program


def test_a_program_of_few_steps_is_too_short(tmp_path: Path) -> None:
    assert failed(bench(tmp_path, TRAIN + "train(2)\n").measure()) == Failure(SHORT, "it was over after 1 step")
    assert failed(bench(tmp_path, "").measure()) == Failure(SHORT, "no training step was seen")


@pytest.mark.parametrize(
    ("source", "kind", "reason"),
    [
        ("raise ValueError('no such thing')", CRASHED, "ValueError: no such thing"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", CRASHED, "SIGSEGV"),
        ("print('halve the batch if out of memory')\nraise KeyError('lr')", CRASHED, "KeyError: 'lr'"),
        ("raise MemoryError('out of memory: 8 GiB')", NO_MEMORY, "MemoryError: out of memory: 8 GiB"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", NO_MEMORY, "the system ended it"),
    ],
)
def test_a_fix_that_fails_says_how(tmp_path: Path, source: str, kind: str, reason: str) -> None:
    failure = failed(bench(tmp_path, PLENTY).measure((own_fix(tmp_path, source),)))
    assert failure.kind == kind
    assert failure.reason.startswith(reason)


def test_a_fix_that_hangs_is_ended_after_a_bound_of_the_unchanged_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour passes as soon as it hangs."""
    mark = tmp_path / "stuck"
    at = bench(tmp_path, PLENTY, patience=Patience(times=100.0, least_s=1.0), seconds=1e6)
    measured(at.measure())
    before, silence_s = at.left(), at._silence_s
    assert silence_s is not None
    hour = 100.0 * silence_s + 3600
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + hour * mark.exists(), sleep=time.sleep)
    monkeypatch.setattr("mfu_doctor.trial.bench.time", clock)
    stuck = (
        "import time, torch\ntorch.randn = lambda *_: time.sleep(3600)\nprint('waiting for ever', flush=True)\n"
        f"open({str(mark)!r}, 'w').close()\n"
    )
    failure = failed(at.measure((own_fix(tmp_path, stuck),)))
    assert failure.kind == HUNG
    assert failure.reason.startswith(f"no step in {100.0 * silence_s:.0f} s")
    assert failure.reason.endswith("waiting for ever")
    assert at.left() > 0.95 * before  # it is not taken for a usual run


def test_a_run_ends_if_the_command_is_gone_before_it_begins(tmp_path: Path) -> None:
    """Nobody holds its pipe open, and nobody will."""
    os.mkfifo(tmp_path / ALIVE)
    script = tmp_path / "train.py"
    script.write_text("import time\ntime.sleep(3600)\n")
    orders = Orders(str(tmp_path), steps=STEPS).write()
    command = [sys.executable, "-m", "mfu_doctor", VERB, str(orders), str(script)]
    assert subprocess.run(command, start_new_session=True, timeout=LONGEST_S, check=False).returncode == -signal.SIGKILL


def test_a_run_that_is_much_slower_is_ended_after_fewer_steps(tmp_path: Path) -> None:
    at = bench(tmp_path, PLENTY)
    at.skipped = 3
    unchanged = measured(at.measure())
    assert at._measured_s == sum(unchanged.steps_s[3:])
    at._measured_s = 0.03  # whatever came between on this machine
    slower = measured(
        at.measure((own_fix(tmp_path, "import time\nreal = time.sleep\ntime.sleep = lambda _: real(0.1)\n"),))
    )
    assert len(slower.steps_s) == 3 + 4 < STEPS


def test_the_time_for_all_ends_a_run(tmp_path: Path) -> None:
    assert failed(bench(tmp_path, PLENTY + "x", seconds=0.5).measure()).kind == OUT_OF_TIME


LEAVES = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
own = subprocess.Popen(["sleep", "3600"])
other = subprocess.Popen(["sh", "-c", "trap '' TERM; while true; do sleep 1; done"], start_new_session=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {own.pid} {other.pid}")
train(100_000)
"""


def test_nothing_is_left_of_a_run(tmp_path: Path) -> None:
    """Neither of a program that ignores the request to end, nor of what it starts in a session of its own."""
    pids = tmp_path / "pids"
    measured(bench(tmp_path, TRAIN + LEAVES, str(pids)).measure())
    assert all(soon_over(int(pid)) for pid in pids.read_text().split())


def test_a_run_ends_with_the_command_even_if_that_is_killed(tmp_path: Path) -> None:
    pids, script = tmp_path / "pids", tmp_path / "train.py"
    script.write_text(TRAIN + "own = subprocess.Popen(['sleep', '3600'])\n" + _tells_pids() + "train(10**9)\n")
    command = [sys.executable, "-m", "mfu_doctor", "try", str(script), str(pids)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
        begun = until(lambda: pids.exists() and pids.read_text())
        parent.send_signal(signal.SIGKILL)
    assert begun
    assert all(soon_over(int(pid)) for pid in pids.read_text().split())


def _tells_pids() -> str:
    return "open(sys.argv[1], 'w').write(f'{os.getpid()} {own.pid}')\n"


def test_the_unchanged_program_is_recorded_as_by_run(tmp_path: Path) -> None:
    at = bench(tmp_path, PLENTY)
    with at.recorded() as trace:
        report = load_input(trace).report
    assert report.run.captured
    assert not trace.exists()


def test_a_program_that_fails_cannot_be_recorded(tmp_path: Path) -> None:
    with (
        pytest.raises(DoctorError, match="ValueError: no data"),
        bench(tmp_path, "raise ValueError('no data')").recorded(),
    ):
        pass


def test_a_profile_of_the_programs_own_records_nothing_in_a_trial(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json.gz"
    inside = f"import mfu_doctor\nwith mfu_doctor.profile({str(mine)!r}):\n    train(100_000)\n"
    at = bench(tmp_path, TRAIN + inside)
    with at.recorded() as trace:
        assert load_input(trace).report.run.captured
    assert len(measured(at.measure()).steps_s) == STEPS
    assert not mine.exists()


def test_a_module_runs_as_by_python_m(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "training.py").write_text(TRAIN + "assert __package__ == 'package'\ntrain(9)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}")
    at = Bench(Program.of(["-m", "package.training"]), Budget(3600.0), steps=STEPS)
    assert len(measured(at.measure()).steps_s) == 8


RANKS = """
import torch.distributed as dist
dist.init_process_group("gloo")
open(f"{sys.argv[1]}.{dist.get_rank()}", "w").write(f"{os.getpid()} {os.getppid()}")
def update():
    dist.all_reduce(weight.grad)
    with torch.no_grad():
        weight.sub_(weight.grad / dist.get_world_size())
    weight.grad = None
train(100_000)
"""


def test_the_first_rank_of_a_job_is_measured_and_all_end(tmp_path: Path) -> None:
    script, pids = tmp_path / "train.py", tmp_path / "pids"
    script.write_text(TRAIN + RANKS)
    name = own_fix(tmp_path, "import os, sys\nsys.argv.append(os.environ['RANK'])\n")
    at = Bench(
        Program.of(["torchrun", "--standalone", "--nproc-per-node", "2", str(script), str(pids)]),
        Budget(3600.0),
        steps=STEPS,
    )
    result = measured(at.measure((name,)))
    assert len(result.steps_s) == STEPS
    assert result.effects == (name,)
    told = [pid for rank in (0, 1) for pid in Path(f"{pids}.{rank}").read_text().split()]
    assert all(soon_over(int(pid)) for pid in told)
