"""What holds for every test: numbers and examples are the same in each run, and how long one takes here decides nothing.

`pytest --hypothesis-profile default` draws others.
"""

from __future__ import annotations

import random
import sys

from hypothesis import HealthCheck, settings

settings.register_profile(
    "alike", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("alike")


def pytest_runtest_setup() -> None:
    """A test draws the same numbers, whatever ran before it in this process."""
    random.seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)
