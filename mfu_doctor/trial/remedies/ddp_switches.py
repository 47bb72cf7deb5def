"""A switch among the arguments of DistributedDataParallel, set where the program has it the other way."""

from __future__ import annotations

import inspect
from typing import Any

from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.patches import change_arguments


def switch(remedy: str, argument: str, *, to: bool) -> None:
    """Set this argument in every DistributedDataParallel from now on, for the remedy of this name."""
    from torch.nn.parallel import DistributedDataParallel

    default = inspect.signature(DistributedDataParallel.__init__).parameters[argument].default

    def change(given: dict[str, Any]) -> None:
        if bool(given.get(argument, default)) is not to:
            given[argument] = to
            took_effect(remedy)

    change_arguments(DistributedDataParallel, change)
