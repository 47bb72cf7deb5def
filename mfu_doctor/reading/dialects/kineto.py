"""Kineto since torch 1.12, for CUDA and ROCm alike (ROCm keeps the CUDA names).

Source: `libkineto/src/ActivityType.cpp` of pytorch/kineto.
"""

from __future__ import annotations

from mfu_doctor.trace import Category

CATEGORIES = {
    "cpu_op": Category.CPU_OP,
    "user_annotation": Category.ANNOTATION,
    "gpu_user_annotation": Category.GPU_ANNOTATION,
    "kernel": Category.KERNEL,
    "gpu_memcpy": Category.MEMCPY,
    "gpu_memset": Category.MEMSET,
    "cuda_runtime": Category.RUNTIME,
    "cuda_driver": Category.DRIVER,
    "cuda_sync": Category.SYNC,
    "python_function": Category.PYTHON,
    "overhead": Category.OVERHEAD,
    "privateuse1_runtime": Category.RUNTIME,
    "privateuse1_driver": Category.DRIVER,
}
