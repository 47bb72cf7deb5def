"""The live half: `profile()` around a training loop, its device samples and its facts. The only place that imports torch."""

from __future__ import annotations

from mfu_doctor.capture.recorder import Recorder, profile

__all__ = ["Recorder", "profile"]
