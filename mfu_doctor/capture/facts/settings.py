"""Facts about torch as this run uses it: versions, precision settings, compilation, the device's allocator, the rank.

Getters only, each failing alone: nothing is set, CUDA is never initialised, Dynamo is never imported, no collective is
called, and of the environment only the three variables of torchrun are read.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from mfu_doctor.capture.facts.optimizers import short
from mfu_doctor.capture.loop.living import living
from mfu_doctor.capture.loop.stopwatch import cuda_in_use
from mfu_doctor.facts import CompileFacts, MemoryFacts, PrecisionFacts

T = TypeVar("T")


class Place(Struct, frozen=True):
    """This process in its job; None if it is alone."""

    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None


_LONGEST_RANK = 9  # digits


def place_in_job() -> Place:
    """Rank and world size from torch.distributed if it is initialised, else from torchrun's variables."""
    local = _number("LOCAL_RANK")
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return Place(distributed.get_rank(), local, distributed.get_world_size())
    return Place(_number("RANK"), local, _number("WORLD_SIZE"))


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_RANK else None


def versions() -> tuple[tuple[str, str], ...]:
    """Versions of what shapes a step."""
    import torch

    found: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
    }
    if cuda_in_use():
        found["cudnn"] = _asked(torch.backends.cudnn.version)
    for name in ("numpy", "transformers", "lightning", "pytorch_lightning", "accelerate", "triton"):
        found[name] = getattr(sys.modules.get(name), "__version__", None)
    return tuple((name, str(version)) for name, version in found.items() if version is not None)


def precision(autocast_dtype: str | None) -> PrecisionFacts:
    """Precision settings in force now.

    Args:
        autocast_dtype: dtype of the last autocast region that the run entered.
    """
    import torch

    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return PrecisionFacts(
        float32_matmul_precision=_asked(torch.get_float32_matmul_precision),
        matmul_tf32=_asked(lambda: bool(cuda.matmul.allow_tf32)),
        cudnn_tf32=_asked(lambda: bool(cudnn.allow_tf32)),
        autocast_dtype=autocast_dtype,
        fp16_accumulation=_asked(lambda: bool(cuda.matmul.allow_fp16_accumulation)),
        cudnn_benchmark=_asked(lambda: bool(cudnn.benchmark)),
        deterministic=_asked(torch.are_deterministic_algorithms_enabled),
        onednn=_asked(lambda: bool(torch.backends.mkldnn.enabled))
        if _asked(torch.backends.mkldnn.is_available)
        else None,
        cudnn=_asked(lambda: bool(cudnn.enabled)),
        anomaly_mode=_asked(torch.is_anomaly_enabled),
        inference_mode=_asked(torch.is_inference_mode_enabled),
        default_dtype=_asked(lambda: short(torch.get_default_dtype())),
        dispatch_modes=_asked(_dispatch_modes),
    )


def _dispatch_modes() -> tuple[str, ...]:
    from torch.utils import _python_dispatch as dispatch

    kinds = [type(mode) for mode in dispatch._get_current_dispatch_mode_stack()]  # noqa: SLF001 - no public name exists
    return tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)


def autocast_now() -> str | None:
    """The dtype of the autocast region that this thread is in; None outside of any."""
    import torch

    kinds = ("cuda", "cpu") if cuda_in_use() else ("cpu",)
    on = next((kind for kind in kinds if _asked(lambda kind=kind: torch.is_autocast_enabled(kind))), None)  # type: ignore[misc]
    dtype = None if on is None else _asked(lambda: torch.get_autocast_dtype(on))
    return None if dtype is None else short(dtype)


def _asked(getter: Callable[[], T]) -> T | None:
    """A getter's answer; None if the installed torch has no such setting or raises (old and new API mixed)."""
    try:
        return getter()
    except (AttributeError, RuntimeError, AssertionError):
        return None


class Compiled(Struct, frozen=True):
    """Dynamo's counters at one moment."""

    unique_graphs: int
    graph_breaks: int
    recompiles: int | None


def compiled_now() -> Compiled | None:
    """Dynamo's counters, None while nothing has imported it."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    counters = getattr(dynamo, "counters", None)
    if counters is None:
        return None
    metrics = _asked(lambda: len([m for m in dynamo.get_compilation_metrics() if getattr(m, "recompile_reason", None)]))  # type: ignore[union-attr]
    breaks = sum(dict(counters.get("graph_break", {})).values())
    return Compiled(dict(counters.get("stats", {})).get("unique_graphs", 0), breaks, metrics)


def compile_facts(before: Compiled | None, after: Compiled | None) -> CompileFacts | None:
    """What was compiled between two moments; None if nothing ever was.

    The search for compiled modules looks at every object of the process once (0.1 to 0.2 s): call it after the steps.
    """
    if after is None:
        return None
    frames = sys.modules.get("torch._dynamo.eval_frame")
    wanted = getattr(frames, "OptimizedModule", None)
    modules = len(living(wanted)) if wanted is not None else 0
    first = before or Compiled(0, 0, 0)
    graphs = after.unique_graphs - first.unique_graphs
    if not modules and not after.unique_graphs:
        return None  # Dynamo was imported, nothing was compiled
    recompiles = None if after.recompiles is None else after.recompiles - (first.recompiles or 0)
    return CompileFacts(
        compiled_modules=modules,
        unique_graphs=graphs,
        graph_breaks=after.graph_breaks - first.graph_breaks,
        recompiles=recompiles,
    )


def allocator_now() -> dict[str, int]:
    """The allocator's counters of the current CUDA device; empty if CUDA is not in use."""
    if not cuda_in_use():
        return {}
    import torch

    return {key: int(value) for key, value in torch.cuda.memory_stats().items() if isinstance(value, int)}


def memory_facts(before: dict[str, int], after: dict[str, int]) -> MemoryFacts | None:
    """Peaks, and counters over the block; None if CUDA is not in use. Peaks are the process's: they are never reset."""
    if not after:
        return None
    import torch

    def over_block(key: str) -> int | None:
        return after[key] - before.get(key, 0) if key in after else None

    return MemoryFacts(
        total_bytes=int(torch.cuda.mem_get_info()[1]),
        allocated_peak_bytes=after.get("allocated_bytes.all.peak"),
        reserved_peak_bytes=after.get("reserved_bytes.all.peak"),
        alloc_retries=over_block("num_alloc_retries"),
        ooms=over_block("num_ooms"),
        device_allocs=over_block("num_device_alloc"),
        device_frees=over_block("num_device_free"),
    )
