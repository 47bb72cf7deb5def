"""The server process of the capture tests, for remedies: each is applied in a process of its own."""

from __future__ import annotations

from tests.capture.conftest import zygote
from tests.trial.remedies.programs import tried

__all__ = ["tried", "zygote"]
