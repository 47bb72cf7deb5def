"""The measured peak of a CPU: the fastest matmul of this machine with the threads that torch may use.

The sustained clock of a CPU under wide vector instructions cannot be read in a container or a virtual machine, so a peak from its
datasheet would be a guess. So matmuls run for half a second per dtype; the result is kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mfu_doctor.capture.facts.processor import cpu_model, processor_identity
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.files import replacing

if TYPE_CHECKING:
    import torch

# (M, N, K), shortest first. Large ones are fastest on many cores; the shortest ends before another process takes a core
# away: with 4 busy processes on 2 cores it still reached 95 % of the peak, a product of 1024 only 15 % (measured).
SHAPES = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (4096, 1024, 4096))

# Seconds of tries per shape, and of all shapes of a dtype.
SHAPE_SECONDS = 0.1
DTYPE_SECONDS = 0.5

# Bytes of the copy that measures memory bandwidth: beyond any last-level cache but the largest.
COPY_BYTES = 128 << 20
COPY_SECONDS = 0.1

DTYPES = ("float32", "bfloat16", "float16", "float64")

_CACHE_VERSION = 6

# A peak can only be measured too low (a busy machine), never too high: the largest of these many is kept for good. One on a
# busy machine is kept only if it is larger, and does not count: five runs in one busy hour would keep a low peak for ever.
MEASUREMENTS = 5
# Running processes per core from which on the machine counts as busy. A run of all cores alone makes about one.
BUSY_LOAD = 1.5


def is_machine_busy() -> bool:
    """Whether more wants to run on this machine than it has cores, averaged over the last minute."""
    try:
        return os.getloadavg()[0] > BUSY_LOAD * (os.cpu_count() or 1)
    except (OSError, AttributeError):  # the system does not tell
        return False


def measure_peaks(
    dtypes: tuple[str, ...], *, cache_dir: Path | None = None, is_busy: Callable[[], bool] = is_machine_busy
) -> tuple[MeasuredPeak, ...]:
    """Measure, or recall, the matmul peak of this machine's CPU.

    Neither random state nor any setting is touched: operands are filled with ones and products are written in place.

    Args:
        dtypes: names of torch dtypes ("float32", "bfloat16", "float16", "float64"); others are left out.
        cache_dir: where results are kept; None: `mfu-doctor` in the user's cache directory. One that cannot be read or
            written costs a new measurement and nothing else.
        is_busy: whether other processes use the cores now, so that a measurement is too low.

    Returns:
        One peak per dtype that this CPU can multiply, dense, in FLOP/s, in the order asked for.
    """
    folder = cache_dir or _user_cache()
    wanted = [name for name in dict.fromkeys(dtypes) if name in DTYPES]
    return tuple(peak for name in wanted if (peak := _recall_or_measure(name, folder, is_busy)) is not None)


def _recall_or_measure(dtype: str, folder: Path | None, is_busy: Callable[[], bool]) -> MeasuredPeak | None:
    key = _key(dtype)
    path = None if folder is None else folder / f"cpu-peak-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    known, measured = _read(path, key)
    if known is not None and measured >= MEASUREMENTS:
        return known
    found = _measure(dtype)
    if found is None:
        return known
    peak = found if known is None else _better(known, found)
    _write(path, key, peak, measured + (0 if is_busy() else 1))
    return peak


def _better(one: MeasuredPeak, other: MeasuredPeak) -> MeasuredPeak:
    """The larger peak with the larger bandwidth: neither can be measured too high."""
    bandwidths = [p.bandwidth_bytes_s for p in (one, other) if p.bandwidth_bytes_s is not None]
    return replace(max(one, other, key=lambda p: p.flops), bandwidth_bytes_s=max(bandwidths, default=None))


def _measure(dtype: str) -> MeasuredPeak | None:
    """The best rate over the shapes; None if this CPU does not multiply the dtype."""
    import torch

    deadline = time.perf_counter() + DTYPE_SECONDS
    best, fastest = 0.0, SHAPES[0]
    try:
        with torch.no_grad():
            for shape in SHAPES:
                if best and not _fits(shape, best, deadline):
                    break
                until = min(time.perf_counter() + SHAPE_SECONDS, deadline)
                best, fastest = max((best, fastest), (_rate(shape, getattr(torch, dtype), until), shape))
            bandwidth = _bandwidth()
    except RuntimeError:
        return None  # this build has no product of this dtype, or memory ran out: no peak is better than a wrong one
    return MeasuredPeak(
        dtype=dtype,
        flops=best,
        threads=torch.get_num_threads(),
        how=f"best {dtype} matmul, {'x'.join(map(str, fastest))}",
        bandwidth_bytes_s=bandwidth,
    )


def _rate(shape: tuple[int, int, int], dtype: torch.dtype, until: float) -> float:
    """FLOP/s of the quickest product of this shape, tried until a moment."""
    import torch

    m, n, k = shape
    options: dict[str, Any] = {"dtype": dtype, "device": "cpu"}
    a, b, out = torch.ones((m, k), **options), torch.ones((k, n), **options), torch.ones((m, n), **options)
    product = torch.mm  # with out=, which autocast leaves alone
    product(a, b, out=out)
    return _flops(shape) / min(_seconds_of(lambda: product(a, b, out=out), until))


def _flops(shape: tuple[int, int, int]) -> int:
    m, n, k = shape
    return 2 * m * n * k


def _fits(shape: tuple[int, int, int], rate: float, deadline: float) -> bool:
    """Whether a warm-up and one repetition of this shape end before the deadline at this rate (FLOP/s)."""
    return time.perf_counter() + 2 * _flops(shape) / rate < deadline


def _bandwidth() -> float:
    """Bytes per second read and written by a copy that no cache holds."""
    import torch

    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device="cpu")
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * COPY_BYTES / min(_seconds_of(lambda: target.copy_(source), time.perf_counter() + COPY_SECONDS))


def _seconds_of(work: Callable[[], object], until: float) -> list[float]:
    """How long each run took, over and over until a moment; at least one run."""
    seconds: list[float] = []
    end = time.perf_counter()
    while not seconds or end < until:
        start = time.perf_counter()
        work()
        end = time.perf_counter()
        seconds.append(end - start)
    return seconds


def _key(dtype: str) -> str:
    """What a measured peak depends on."""
    import torch

    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # raised if the old and the new setting were both used
        precision = "mixed"
    parts = {
        "version": _CACHE_VERSION,
        "cpu": cpu_model(),
        "processor": processor_identity(),
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
    """What is kept, and of how many measurements."""
    try:
        stored = json.loads(path.read_bytes()) if path is not None else {}
        if stored["key"] == key and stored["peak"]["flops"] > 0:
            return MeasuredPeak(**stored["peak"]), int(stored["measurements"])
    except (OSError, ValueError, TypeError, KeyError):
        pass  # nothing kept, or not by this version: measure
    return None, 0


def _write(path: Path | None, key: str, peak: MeasuredPeak, measured: int) -> None:
    if path is None:
        return
    content = {name: getattr(peak, name) for name in ("dtype", "flops", "threads", "how", "bandwidth_bytes_s")}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            stream.write(json.dumps({"key": key, "measurements": measured, "peak": content}).encode())
    except OSError:
        return  # a read-only or full disk: the next run measures again
