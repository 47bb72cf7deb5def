"""What remedies do after the first step goes well beside other hooks of optimizers, such as those of a trial."""

from __future__ import annotations

import pytest

from mfu_doctor.trial.remedies.catalogue import REMEDIES
from tests.trial.remedies.programs import TRAINING, Try

OTHER_HOOK = """
from torch.optim.optimizer import register_optimizer_step_post_hook
steps = []
register_optimizer_step_post_hook(lambda *_: steps.append(1))
"""
ON_EVERY_MACHINE = ("gc-freeze", "frozen-parameters", "channels-last", "bf16-autocast", "float32")


@pytest.mark.parametrize("name", ON_EVERY_MACHINE)
def test_another_hook_after_it_is_called_in_every_step(tried: Try, name: str) -> None:
    ran = tried(OTHER_HOOK + TRAINING + "said['steps'] = len(steps)", name)
    assert ran.said["steps"] == len(ran.losses)


def test_the_names_are_those_of_the_catalogue() -> None:
    assert set(ON_EVERY_MACHINE) <= {remedy.name for remedy in REMEDIES}
