"""mfu-doctor in a Hugging Face Trainer: copy the class, pass `callbacks=[MfuDoctor()]`."""

# ruff: noqa: ARG002 - the signatures are the library's

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback

import mfu_doctor


class MfuDoctor(TrainerCallback):
    """Records the first training steps and prints the report when training ends.

    Args:
        options: passed to `mfu_doctor.profile`, for example `path="run.pt.trace.json.gz"`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.block = ExitStack()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.block.close()  # a training that failed left it open: the Trainer tells its callbacks nothing of that
        self.doctor = self.block.enter_context(mfu_doctor.profile(**self.options))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.doctor.step()  # fires once per optimizer step, after gradient accumulation

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.block.close()
