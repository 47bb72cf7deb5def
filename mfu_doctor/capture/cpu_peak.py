"""The peak of a CPU, measured: the fastest matrix product that this machine does with the threads that torch may use.

A CPU's sustained clock under wide vector instructions cannot be read in a container or a virtual machine, so a peak
from its data sheet would be a guess. Half a second of matrix products per dtype is not; the result is kept in the
user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfu_doctor.facts import MeasuredPeak

if TYPE_CHECKING:
    import torch

# (M, N, K), large enough that blocking and threads pay off, small enough for half a second (accounting, CPU machines).
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 1024, 4096))

# Seconds and repetitions per shape, and seconds per dtype in all.
SHAPE_SECONDS = 0.15
SHAPE_REPEATS = 5
DTYPE_SECONDS = 0.5

# Bytes of the copy that measures memory bandwidth: beyond any last-level cache but the largest.
COPY_BYTES = 128 << 20
COPY_REPEATS = 3

DTYPES = ("float32", "bfloat16", "float16", "float64")

_CACHE_VERSION = 2

# A peak can only be measured too low (a busy machine), never too high: the largest of this many measurements is kept for good.
TRUSTED_AFTER = 5


def measure_peaks(dtypes: tuple[str, ...], *, cache_dir: Path | None = None) -> tuple[MeasuredPeak, ...]:
    """Measure, or recall, the matrix-product peak of this machine's CPU.

    Neither random state nor any setting is touched: operands are filled with ones and products are written in place.

    Args:
        dtypes: names of torch dtypes ("float32", "bfloat16", "float16", "float64"); others are left out.
        cache_dir: where results are kept; None: `mfu-doctor` in the user's cache directory. One that cannot be read or
            written costs a new measurement and nothing else.

    Returns:
        One peak per dtype that this CPU can multiply, dense, in FLOP/s, in the order asked for.
    """
    folder = cache_dir or _user_cache()
    wanted = [name for name in dict.fromkeys(dtypes) if name in DTYPES]
    return tuple(peak for name in wanted if (peak := _recall_or_measure(name, folder)) is not None)


def cpu_model() -> str:
    """The processor's name as the system tells it, or its architecture."""
    try:
        with Path("/proc/cpuinfo").open(errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux, or /proc is hidden: the platform module answers below
    return platform.processor() or platform.machine()


def _recall_or_measure(dtype: str, folder: Path | None) -> MeasuredPeak | None:
    key = _key(dtype)
    path = None if folder is None else folder / f"cpu-peak-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    known, times = _read(path, key)
    if known is not None and times >= TRUSTED_AFTER:
        return known
    measured = _measure(dtype)
    candidates = [p for p in (known, measured) if p is not None]
    peak = max(candidates, key=lambda p: p.flops) if candidates else None
    if peak is not None:
        _write(path, key, peak, times + 1)
    return peak


def _measure(dtype: str) -> MeasuredPeak | None:
    """The best rate over the shapes, with the best shape measured once more at the end (turbo, noisy neighbours)."""
    import torch

    deadline = time.perf_counter() + DTYPE_SECONDS
    best: tuple[float, tuple[int, int, int]] | None = None
    try:
        with torch.no_grad():
            for shape in SHAPES:
                if best is not None and not _fits(shape, best[0], deadline):
                    break
                rate = _gemm_rate(shape, getattr(torch, dtype), deadline)
                best = max(best, (rate, shape)) if best is not None else (rate, shape)
            assert best is not None
            again = _gemm_rate(best[1], getattr(torch, dtype), time.perf_counter())
            bandwidth = _bandwidth()
    except RuntimeError:
        return None  # this build has no product of this dtype, or memory ran out: no peak is better than a wrong one
    how = f"best {dtype} matrix product, {'x'.join(map(str, best[1]))}"
    rate, threads = max(best[0], again), torch.get_num_threads()
    return MeasuredPeak(dtype=dtype, flops=rate, threads=threads, how=how, bandwidth_bytes_s=bandwidth)


def _flops(shape: tuple[int, int, int]) -> int:
    m, n, k = shape
    return 2 * m * n * k


def _fits(shape: tuple[int, int, int], rate: float, deadline: float) -> bool:
    """Whether a warm-up and one repetition of this shape end before the deadline at this rate (FLOP/s)."""
    return time.perf_counter() + 2 * _flops(shape) / rate < deadline


def _gemm_rate(shape: tuple[int, int, int], dtype: torch.dtype, deadline: float) -> float:
    import torch

    m, n, k = shape
    options: dict[str, Any] = {"dtype": dtype, "device": "cpu"}
    a, b, out = torch.ones((m, k), **options), torch.ones((k, n), **options), torch.ones((m, n), **options)
    product = torch.mm  # with out=, which autocast leaves alone
    return _flops(shape) / _best_seconds(lambda: product(a, b, out=out), SHAPE_REPEATS, deadline)


@cache
def _bandwidth() -> float:
    """Bytes per second read and written by a copy that no cache holds."""
    import torch

    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device="cpu")
    target = torch.empty_like(source)
    seconds = _best_seconds(lambda: target.copy_(source), COPY_REPEATS, float("inf"))
    return 2 * COPY_BYTES / seconds


def _best_seconds(work: Callable[[], object], repeats: int, deadline: float) -> float:
    """The shortest of up to `repeats` runs after one to warm up; at least one run is timed."""
    work()
    began, best = time.perf_counter(), float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        end = time.perf_counter()
        best = min(best, end - start)
        if end - began > SHAPE_SECONDS or end > deadline:
            break
    return best


def _key(dtype: str) -> str:
    """What a measured peak depends on."""
    import torch

    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # raised where the old and the new setting were both used
        precision = "mixed"
    parts = {
        "version": _CACHE_VERSION,
        "cpu": cpu_model(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "float32_matmul_precision": precision,
    }
    return json.dumps(parts, sort_keys=True)


def _user_cache() -> Path | None:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "mfu-doctor"
    except RuntimeError:  # no home directory
        return None


def _read(path: Path | None, key: str) -> tuple[MeasuredPeak | None, int]:
    """What is kept, and how many measurements it is the largest of."""
    try:
        stored = json.loads(path.read_bytes()) if path is not None else {}
        if stored["key"] == key and stored["peak"]["flops"] > 0:
            return MeasuredPeak(**stored["peak"]), int(stored["times"])
    except (OSError, ValueError, TypeError, KeyError):
        pass  # nothing kept, or not by this version: measure
    return None, 0


def _write(path: Path | None, key: str, peak: MeasuredPeak, times: int) -> None:
    if path is None:
        return
    content = {name: getattr(peak, name) for name in ("dtype", "flops", "threads", "how", "bandwidth_bytes_s")}
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({"key": key, "times": times, "peak": content}))
        partial.replace(path)
    except OSError:
        return  # a read-only or full disk: the next run measures again
