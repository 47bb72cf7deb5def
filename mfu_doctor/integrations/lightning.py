"""mfu-doctor in the Trainer of Lightning: `Trainer(..., callbacks=[MfuCallback()])`."""

# ruff: noqa: ARG002 - the signatures are the library's

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mfu_doctor.integrations.watched import FAILED, Watching

# Two packages have the same classes, and a trainer of one knows the callbacks of its own.
if not TYPE_CHECKING and "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback
else:
    from lightning.pytorch import Callback


class MfuCallback(Watching, Callback):
    """Records the first training steps and prints the report; MFU and the times of steps go to the loggers.

    A step is one of the optimizer, after gradient accumulation. Validation between steps is in no mean. Numbers are logged every
    `log_every_n_steps`.

    What it takes and tells: `watched.Watching`.
    """

    _steps = 0  # of the trainer's optimizers

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin: a loader whose length is not known brings its first batch before the training starts."""
        self._watched.begin(pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """What came until here was no step."""
        self._steps = trainer.global_step
        self._watched.paused()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """A batch was trained on: with gradient accumulation not each of them ends a step."""
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        self._watched.step()
        if _is_logged(trainer):
            self._watched.notes.guarded(FAILED, self._log, trainer)

    def _log(self, trainer: Any) -> None:
        """Straight to the loggers: what a module logs stays in Lightning's results, and is logged again when it is not known."""
        numbers = self._watched.numbers
        for logger in trainer.loggers if numbers else ():
            logger.log_metrics(numbers, step=_step(trainer))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """A validation was no training."""
        self._watched.paused()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End."""
        self._watched.end()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """There may have been nothing left to train."""
        self._watched.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The training failed."""
        self._watched.end(exception)


def _is_logged(trainer: Any) -> bool:
    """Whether the trainer writes what the model logged in this step: to log takes longer than all the rest."""
    connector = getattr(trainer, "_logger_connector", None)
    return bool(getattr(connector, "should_update_logs", True))


def _step(trainer: Any) -> int:
    """The step under which the trainer logs now: those of several optimizers in one batch are one."""
    loop = getattr(trainer.fit_loop, "epoch_loop", None)
    return int(getattr(loop, "_batches_that_stepped", trainer.global_step - 1))
