"""The highest rate that matrix products reach in each format, beside the table's peak."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from mfu_doctor.devices.table import lookup
from on_gpu_parts.job import Job
from on_gpu_parts.work import place, rate

# The type of the matrices, and what fp32 ones may be computed in.
FORMATS: dict[str, tuple[torch.dtype, str]] = {
    "bf16": (torch.bfloat16, "highest"),
    "fp16": (torch.float16, "highest"),
    "fp8": (torch.float8_e4m3fn, "highest"),
    "tf32": (torch.float32, "high"),
    "fp32": (torch.float32, "highest"),
    "fp64": (torch.float64, "highest"),
}
ON_CPU = ("fp32", "fp64")
MOST_S = 4.0  # that the four products or more of a size may take, by the rate of the smaller one


def found(job: Job) -> Iterator[dict[str, Any]]:
    """One line per format: the best of several sizes; a format that this card or library lacks is told and ends nothing."""
    device = place(job.rehearse)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    row = lookup(name)
    sizes, seconds = ((128, 256), 0.05) if job.rehearse else ((4096, 8192, 16384), 0.8)
    for form in ON_CPU if job.rehearse else FORMATS:
        try:
            rates = reached(form, sizes, seconds, device)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            yield {"fact": form, "failed": str(error).strip().splitlines()[0][:200]}
            continue
        size = max(rates, key=lambda size: rates[size])
        peak = row.dense.get(form) if row else None
        share = rates[size] / peak if peak else None
        told = {"size": size, "flops_per_s": rates[size], "table": peak, "share": share}
        yield {"fact": form, "device": name, **told, "above_table": share is not None and share > 1.0}


def reached(form: str, sizes: tuple[int, ...], seconds: float, device: torch.device) -> dict[int, float]:
    """FLOP/s by size, as far as sizes fit the memory and one product takes no more than a moment."""
    dtype, precision = FORMATS[form]
    torch.set_float32_matmul_precision(precision)
    rates: dict[int, float] = {}
    for size in sizes:
        if rates and 4 * 2.0 * size**3 / max(rates.values()) > MOST_S:
            break
        try:
            a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            rates[size] = rate(a, b, seconds, scaled(a) if form == "fp8" else None)
        except torch.OutOfMemoryError:
            if not rates:
                raise
            break
    return rates


def scaled(like: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], object]:
    """The product of fp8 matrices: the second one is read by columns."""
    one = torch.ones((), device=like.device)
    return lambda a, b: torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
