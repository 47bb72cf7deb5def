"""What the user wrote, and the command that starts it in a child process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mfu_doctor.errors import DoctorError
from mfu_doctor.trial.command import Program

ORDERS = Path("orders.json")


def command(*words: str) -> list[str]:
    made = Program.of(words).command(ORDERS)
    assert made[0] == sys.executable
    return made[1:]


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text("")
    monkeypatch.chdir(tmp_path)


def test_a_script_or_module_starts_through_our_child() -> None:
    ours = ["-m", "mfu_doctor", "trial", "orders.json"]
    assert command("train.py", "--epochs", "1") == [*ours, "train.py", "--epochs", "1"]
    assert command("-m", "package.train", "-x") == [*ours, "-m", "package.train", "-x"]


@pytest.mark.parametrize(
    ("words", "options", "program"),
    [
        (
            ("torchrun", "--nproc-per-node", "2", "train.py", "-n", "1"),
            ("--nproc-per-node", "2"),
            ("train.py", "-n", "1"),
        ),
        (("-m", "torch.distributed.run", "--standalone", "train.py"), ("--standalone",), ("train.py",)),
        (("/bin/torchrun", "--nnodes=1", "-m", "package.train", "-m"), ("--nnodes=1",), ("-m", "package.train", "-m")),
    ],
)
def test_torchrun_starts_our_child_in_each_rank(
    words: tuple[str, ...], options: tuple[str, ...], program: tuple[str, ...]
) -> None:
    pytest.importorskip("torch", reason="its launcher reads the words")
    made = command(*words)
    assert made == ["-m", "torch.distributed.run", *options, "-m", "mfu_doctor", "trial", "orders.json", *program]
    assert str(Program.of(words)) == " ".join(("torchrun", *options, *program))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no program is named"),
        (("-m",), "no program is named"),
        (("--epochs", "train.py"), "unknown option --epochs"),
        (("missing.py",), "cannot read missing.py"),
    ],
)
def test_what_names_no_program_is_an_error(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(DoctorError, match=said):
        Program.of(words)


@pytest.mark.parametrize("words", [("torchrun", "--no-such-option"), ("torchrun", "--no-python", "train.py")])
def test_what_torchrun_does_not_take_is_an_error(words: tuple[str, ...]) -> None:
    pytest.importorskip("torch", reason="its launcher reads the words")
    with pytest.raises(DoctorError, match="torchrun"):
        Program.of(words)
