"""The highest rate that matrix products reach in each format, beside the table's peak."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mfu_doctor.devices.table import lookup
from on_gpu_parts.work import place, rate

FORMATS: dict[str, tuple[torch.dtype, bool]] = {  # the type of the matrices, and whether TF32 may be used
    "bf16": (torch.bfloat16, False),
    "fp16": (torch.float16, False),
    "tf32": (torch.float32, True),
    "fp32": (torch.float32, False),
    "fp64": (torch.float64, False),
}
ON_CPU = ("fp32", "fp64")


def found(rehearse: bool) -> Iterator[dict[str, Any]]:
    """One line per format: the best of several sizes."""
    device = place(rehearse)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    row = lookup(name)
    sizes, seconds = ((128, 256), 0.05) if rehearse else ((4096, 8192, 16384), 1.0)
    for form in ON_CPU if rehearse else FORMATS:
        dtype, tf32 = FORMATS[form]
        torch.backends.cuda.matmul.allow_tf32 = tf32
        rates = {size: rate(*torch.randn(2, size, size, device=device).to(dtype), seconds) for size in sizes}
        size = max(rates, key=lambda size: rates[size])
        peak = row.dense.get(form) if row else None
        share = rates[size] / peak if peak else None
        yield {"fact": form, "device": name, "size": size, "flops_per_s": rates[size], "table": peak, "share": share}
