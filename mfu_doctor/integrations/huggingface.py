"""mfu-doctor in the Trainer of Hugging Face transformers: `Trainer(..., callbacks=[MfuCallback()])`."""

# ruff: noqa: ARG002 - the signatures are the library's

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from transformers import Trainer, TrainerCallback

from mfu_doctor.capture.loop.patches import patch
from mfu_doctor.integrations.watched import FAILED, Watching


class MfuCallback(Watching, TrainerCallback):
    """Records the first training steps and prints the report; MFU and the times of steps go into the log, where the loss goes.

    A step is one of the optimizer, after gradient accumulation. Evaluations and checkpoints between steps are in no mean.

    What it takes and tells: `watched.Watching`.
    """

    _leave: Callable[[], None] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Begin."""
        self.ended()
        self._watched.begin(model)
        if not self._watched.enabled:
            return
        # The Trainer tells its trackers of a log before it tells the callbacks of the user: numbers must be in it already.
        self._leave = patch(Trainer, "log", self._logging)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An optimizer step was made."""
        self._watched.step()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An evaluation was no training."""
        self._watched.paused()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Nor was a checkpoint."""
        self._watched.paused()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End."""
        self.ended()

    def ended(self, error: BaseException | None = None) -> None:
        """The training is over, or this error ended it; safe to call twice."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()
        self._watched.end(error)

    def failed(self, error: BaseException) -> None:
        """This error ended the training; it is the one to raise, whatever becomes of ours."""
        self._watched.notes.guarded("the training was not left alone", self.ended, error)

    def _made(self) -> None:
        """The Trainer tells nobody that a training failed or was interrupted, and a call that runs cannot be replaced.

        So it is replaced before, for as long as a callback exists.
        """
        weakref.finalize(self, patch(Trainer, "train", _ending))

    def _logging(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def log(trainer: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> Any:
            self._watched.notes.guarded(FAILED, self._add, trainer, logs)
            return original(trainer, logs, *args, **kwargs)

        return log

    def _add(self, trainer: Any, logs: dict[str, float]) -> None:
        """Numbers go where the loss of training steps is logged, if it is the training of this callback."""
        if "loss" in logs and self in trainer.callback_handler.callbacks:
            logs.update(self._watched.numbers)


def _ending(original: Callable[..., Any]) -> Callable[..., Any]:
    """The Trainer's `train`, and a training that it leaves by an error is over for its callbacks."""

    def train(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(trainer, *args, **kwargs)
        except BaseException as error:
            handler = getattr(trainer, "callback_handler", None)
            for callback in tuple(getattr(handler, "callbacks", ())):
                if isinstance(callback, MfuCallback):
                    callback.failed(error)
            raise

    return train
