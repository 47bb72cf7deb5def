"""The autograd profiler before Kineto: a bare list of events without categories; the process id says where they ran.

Source: `torch/autograd/profiler.py` of torch 1.7, `EventList.export_chrome_trace`.
"""

from __future__ import annotations

from mfu_doctor.trace import Category

# Written here as categories: the reader uses the process id of an event that has no category.
CATEGORIES = {
    "cpu functions": Category.CPU_OP,
    "cuda functions": Category.KERNEL,
}
