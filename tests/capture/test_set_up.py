"""The line of the program that says how often a library saves, evaluates or logs: the only one that fits, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfu_doctor.capture.loop.set_up import set_up_at

CALLBACK = """
keep = ModelCheckpoint(
    dirpath=out,
    every_n_train_steps=3,
    save_last=True,
)
trainer = Trainer(max_steps=100, callbacks=[keep])
trainer.fit(model)
"""
ARGUMENTS = """
options = TrainingArguments(
    max_steps=100, logging_steps=25,
    save_steps=every,
    eval_strategy="no",
)
trainer = Trainer(model, options, eval_dataset=held_out)
"""
TWO = """
first = TrainingArguments(save_steps=10)
second = TrainingArguments(save_steps=20)
"""


@pytest.mark.parametrize(
    ("program", "owner", "kind", "line"),
    [
        (CALLBACK, "ModelCheckpoint", "checkpoint", 4),  # how often stands before what else is asked for
        (CALLBACK, "EarlyStopping", "evaluation", None),
        (CALLBACK, None, "checkpoint", None),  # save_last does not say how often
        (ARGUMENTS, None, "checkpoint", 4),
        (ARGUMENTS, None, "logging", 3),
        (ARGUMENTS, None, "evaluation", None),  # it is off: something else asks for it
        (ARGUMENTS, None, "rollout", None),
        (TWO, None, "checkpoint", None),
        ("keep = ModelCheckpoint()", "ModelCheckpoint", "checkpoint", 1),
        ("a = ModelCheckpoint()\nb = ModelCheckpoint()", "ModelCheckpoint", "checkpoint", None),
    ],
)
def test_the_line_that_says_how_often(
    tmp_path: Path, program: str, owner: str | None, kind: str, line: int | None
) -> None:
    file = tmp_path / "train.py"
    file.write_text(program)
    assert set_up_at([str(file)], owner, kind) == (None if line is None else (str(file), line))


def test_a_program_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("keep = ModelCheckpoint(")
    assert set_up_at([str(broken), str(tmp_path / "gone.py"), "<stdin>"], "ModelCheckpoint", "checkpoint") is None
