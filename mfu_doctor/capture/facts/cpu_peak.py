"""The peak of a CPU, measured: the fastest matrix product that this machine does with the threads that torch may use.

A CPU's sustained clock under wide vector instructions cannot be read in a container or a virtual machine, so a peak
from its data sheet would be a guess. Half a second of matrix products per dtype is not (a second more on a machine that is
busy with something else, where only some of the tries run undisturbed); the result is kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfu_doctor.capture.facts.processor import cpu_model, processor_identity
from mfu_doctor.facts import MeasuredPeak

if TYPE_CHECKING:
    import torch

# (M, N, K), shortest first. Large ones are fastest on many cores; the shortest ends before another process takes a core
# away: with 4 busy processes on 2 cores it still reached 95 % of the peak, a product of 1024 only 15 % (measured).
SHAPES = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (4096, 1024, 4096))

# Seconds of tries per shape and of a round over all shapes, and seconds more while the result is in doubt.
SHAPE_SECONDS = 0.1
DTYPE_SECONDS = 0.5
DOUBT_SECONDS = 1.0

# In doubt the two shortest are tried in shorter turns, each after a rest: a process that has slept is let run at once, and
# threads that share a core come apart (without rests, tries on a busy machine are all slow or all fast).
REST_SECONDS = 0.02
ROUNDS_IN_DOUBT = 10

# A rate is believed when so many tries came so close to it, on nearly all of the time of nearly all threads.
AGREEING = 3
AGREEMENT = 0.97
UNDISTURBED = 0.9  # processor time over elapsed time and threads; the kernel counts it in ticks of 1 to 4 ms

# Bytes of the copy that measures memory bandwidth: beyond any last-level cache but the largest.
COPY_BYTES = 128 << 20
COPY_SECONDS = 0.1

DTYPES = ("float32", "bfloat16", "float16", "float64")

_CACHE_VERSION = 4

# A peak can only be measured too low (a busy machine), never too high: the largest of several measurements is kept for good,
# of these many where each was believed, of four times as many where none was.
TRUSTED_AFTER = 20
BELIEVED, DOUBTED = 4, 1

# A format this much slower than fp32 has no arithmetic here. (Measured without it: bf16 1/120 of fp32; with it: fp64 1/2.)
EMULATED = 0.1


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
    peaks: list[MeasuredPeak] = []
    for name in dict.fromkeys(dtypes):
        slow = EMULATED * max((p.flops for p in peaks if p.dtype == "float32"), default=0.0)
        if name in DTYPES and (peak := _recall_or_measure(name, folder, slow)) is not None:
            peaks.append(peak)
    return tuple(peaks)


def _recall_or_measure(dtype: str, folder: Path | None, slow: float) -> MeasuredPeak | None:
    key = _key(dtype)
    path = None if folder is None else folder / f"cpu-peak-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    known, trust = _read(path, key)
    if known is not None and trust >= TRUSTED_AFTER:
        return known
    found = _measure(dtype, slow)
    if found is None:
        return known
    peak, believed = found
    if known is not None:
        peak = _better(known, peak)
    _write(path, key, peak, trust + (BELIEVED if believed else DOUBTED))
    return peak


def _better(one: MeasuredPeak, other: MeasuredPeak) -> MeasuredPeak:
    """The larger peak with the larger bandwidth: neither can be measured too high."""
    bandwidths = [p.bandwidth_bytes_s for p in (one, other) if p.bandwidth_bytes_s is not None]
    return replace(max(one, other, key=lambda p: p.flops), bandwidth_bytes_s=max(bandwidths, default=None))


@dataclass(slots=True)
class _Tries:
    """What the products of one shape reached."""

    shape: tuple[int, int, int]
    rates: list[float] = field(default_factory=list)  # FLOP/s
    undisturbed: bool = False  # the last round had the processor to itself

    @property
    def best(self) -> float:
        return max(self.rates, default=0.0)

    @property
    def believed(self) -> bool:
        """Whether the best is no accident and no victim of other processes."""
        close = [rate for rate in self.rates if rate >= AGREEMENT * self.best]
        return self.undisturbed and len(close) >= AGREEING


def _measure(dtype: str, slow: float) -> tuple[MeasuredPeak, bool] | None:
    """The best rate over the shapes, and whether it is believed; None where this CPU does not multiply the dtype.

    Below `slow` FLOP/s the dtype is emulated, on one thread: how slowly exactly is not worth another second.
    """
    import torch

    tries = [_Tries(shape) for shape in SHAPES]
    deadline = time.perf_counter() + DTYPE_SECONDS
    try:
        with torch.no_grad():
            _round(tries, getattr(torch, dtype), deadline=deadline, each=SHAPE_SECONDS)
            while not _settled(tries, slow) and time.perf_counter() < deadline + DOUBT_SECONDS:
                time.sleep(REST_SECONDS)
                each = SHAPE_SECONDS / ROUNDS_IN_DOUBT
                _round(tries[:2], getattr(torch, dtype), deadline=deadline + DOUBT_SECONDS, each=each)
            bandwidth = _bandwidth()
    except RuntimeError:
        return None  # this build has no product of this dtype, or memory ran out: no peak is better than a wrong one
    best = _fastest(tries)
    settled = _settled(tries, slow)
    doubt = "" if settled else ", in doubt: the tries were disturbed"
    how = f"best {dtype} matrix product, {'x'.join(map(str, best.shape))}{doubt}"
    peak = MeasuredPeak(
        dtype=dtype, flops=best.best, threads=torch.get_num_threads(), how=how, bandwidth_bytes_s=bandwidth
    )
    return peak, settled


def _settled(tries: list[_Tries], slow: float) -> bool:
    best = _fastest(tries)
    return best.believed or best.best < slow


def _fastest(tries: list[_Tries]) -> _Tries:
    return max(tries, key=lambda t: t.best)


def _round(tries: list[_Tries], dtype: torch.dtype, *, deadline: float, each: float) -> None:
    """Try each shape for so many seconds, as far as the deadline allows at the best rate so far."""
    for one in tries:
        rate = _fastest(tries).best
        if rate and not _fits(one.shape, rate, deadline):
            break
        _try(one, dtype, until=min(time.perf_counter() + each, deadline))


def _try(one: _Tries, dtype: torch.dtype, *, until: float) -> None:
    import torch

    m, n, k = one.shape
    options: dict[str, Any] = {"dtype": dtype, "device": "cpu"}
    a, b, out = torch.ones((m, k), **options), torch.ones((k, n), **options), torch.ones((m, n), **options)
    product = torch.mm  # with out=, which autocast leaves alone
    product(a, b, out=out)
    began, used = time.perf_counter(), time.process_time()
    seconds = _seconds_of(lambda: product(a, b, out=out), until)
    spent = max(time.perf_counter() - began, 1e-9)
    one.rates += [_flops(one.shape) / s for s in seconds]
    one.undisturbed = time.process_time() - used >= UNDISTURBED * spent * torch.get_num_threads()


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
    except RuntimeError:  # raised where the old and the new setting were both used
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
    """What is kept, and how far it is trusted."""
    try:
        stored = json.loads(path.read_bytes()) if path is not None else {}
        if stored["key"] == key and stored["peak"]["flops"] > 0:
            return MeasuredPeak(**stored["peak"]), int(stored["trust"])
    except (OSError, ValueError, TypeError, KeyError):
        pass  # nothing kept, or not by this version: measure
    return None, 0


def _write(path: Path | None, key: str, peak: MeasuredPeak, trust: int) -> None:
    if path is None:
        return
    content = {name: getattr(peak, name) for name in ("dtype", "flops", "threads", "how", "bandwidth_bytes_s")}
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({"key": key, "trust": trust, "peak": content}))
        partial.replace(path)
    except OSError:
        return  # a read-only or full disk: the next run measures again
