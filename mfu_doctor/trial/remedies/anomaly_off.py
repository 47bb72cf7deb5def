"""No anomaly detection in autograd, also where the program switches it on: the remedy undoes what the program asks for."""

from __future__ import annotations

from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import replace
from mfu_doctor.trial.remedies.remedy import Circumstances, Keywords, Numerics, Remedy
from mfu_doctor.trial.remedies.trainers import lightning_trainer

_NAME = "anomaly-off"


def _why_not(circumstances: Circumstances) -> str | None:
    precision = circumstances.precision
    return "it is off" if precision is not None and precision.anomaly_mode is False else None


def _apply(_: str | None) -> None:
    import torch

    def never(original: Any) -> Any:
        def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> None:
            if enabled:
                took_effect(_NAME)
            original(False, check_nan)

        return set_anomaly_enabled

    replace(torch, "set_anomaly_enabled", never)


ANOMALY_OFF = Remedy(
    name=_NAME,
    answers=("anomaly-mode",),
    words="no anomaly detection, also where the program switches it on",
    line="torch.autograd.set_detect_anomaly(False)",
    numerics=Numerics.SAME,
    why_not=_why_not,
    apply=_apply,
    edits=(
        lightning_trainer(("detect_anomaly", "False"), needs=("detect_anomaly",)),
        Keywords(
            ("set_detect_anomaly",),
            (("mode", "False"),),
            needs=("mode",),
            against=("detect_anomaly",),
            places=("mode",),
            is_function=True,
        ),
    ),
)
