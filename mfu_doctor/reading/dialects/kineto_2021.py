"""Kineto as it came with torch 1.8 to 1.11 (and again in some builds of 2022): capitalised categories without "gpu_".

Category names are compared in lower case, so `Kernel` needs no line here. Ids are under "external id", and `[memory]`
events have no category.
"""

from __future__ import annotations

from mfu_doctor.trace import Category

OPERATOR = "operator"
CATEGORIES = {
    OPERATOR: Category.CPU_OP,
    "runtime": Category.RUNTIME,
    "memcpy": Category.MEMCPY,
    "memset": Category.MEMSET,
}
