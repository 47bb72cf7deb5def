"""Kineto on Intel GPUs: kernels and copies as in the main dialect, calls under names of their own.

Source: `libkineto/src/plugin/xpupti` of pytorch/kineto.
"""

from __future__ import annotations

from mfu_doctor.trace import Category

CATEGORIES = {
    "xpu_runtime": Category.RUNTIME,
    "xpu_driver": Category.DRIVER,
    "xpu_sync": Category.SYNC,
}
