"""mfu-doctor in a Lightning Trainer: copy the class, pass `callbacks=[MfuDoctor()]`."""

# ruff: noqa: ARG002 - the signatures are the library's

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

import mfu_doctor


class MfuDoctor(Callback):
    """Records the first training steps and prints the report when training ends, also when it fails.

    Args:
        options: passed to `mfu_doctor.profile`, for example `path="run.pt.trace.json.gz"`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.block = ExitStack()
        self.steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.doctor = self.block.enter_context(mfu_doctor.profile(**self.options))

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step > self.steps:  # an optimizer step was made: not only a micro-batch
            self.steps = trainer.global_step
            self.doctor.step()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.block.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.block.close()
