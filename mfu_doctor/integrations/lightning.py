"""mfu-doctor in the Trainer of Lightning: `Trainer(..., callbacks=[MfuCallback()])`."""

# ruff: noqa: ARG002 - the signatures are the library's

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mfu_doctor.integrations.watched import Watched

# Two packages have the same classes, and a trainer of one knows the callbacks of its own.
if not TYPE_CHECKING and "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback
else:
    from lightning.pytorch import Callback


class MfuCallback(Callback):
    """Records the first training steps and prints the report; MFU and the times of steps go to the loggers.

    A step is one of the optimizer, after gradient accumulation. Validation between steps is in no mean. Numbers are logged every
    `log_every_n_steps`.

    Args:
        record: whether steps are recorded, and the report printed.
        log: which numbers are logged, and under what names, such as {"mfu": "mfu"}; None: all, under their own names.
        tokens_per_step: tokens of one step of this process; None: those of batches that name them "input_ids".
        **options: passed to `mfu_doctor.profile`, such as `path=` or `at_step=`; `model_flops` and `peak_flops` hold for the
            log too.

    Attributes:
        recorder: what `profile()` returns, with the report; None without `record`.

    Raises:
        DoctorError: an option is not valid.
    """

    def __init__(
        self,
        *,
        record: bool = True,
        log: Mapping[str, str] | None = None,
        tokens_per_step: int | None = None,
        **options: Any,
    ) -> None:
        self._watched = Watched(options, record=record, log=log, tokens_per_step=tokens_per_step)
        self.recorder = self._watched.recorder
        self._steps = 0  # of the trainer's optimizers

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin."""
        self._steps = trainer.global_step
        self._watched.begin(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """A batch was trained on: with gradient accumulation not each of them ends a step."""
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        self._watched.step()
        if _is_logged(trainer):
            pl_module.log_dict(self._watched.numbers, on_step=True, on_epoch=False)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """A validation was no training."""
        self._watched.paused()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End."""
        self._watched.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The training failed."""
        self._watched.end()


def _is_logged(trainer: Any) -> bool:
    """Whether the trainer writes what is logged in this step: to log takes longer than all the rest."""
    connector = getattr(trainer, "_logger_connector", None)
    return bool(getattr(connector, "should_update_logs", True))
