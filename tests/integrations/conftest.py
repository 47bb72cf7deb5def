"""The server process that runs programs, as for the tests of capture."""

from __future__ import annotations

from tests.capture.conftest import zygote

__all__ = ["zygote"]
