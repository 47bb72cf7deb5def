"""CPU cores that loading and training share: what both need per step, and what step that allows with more workers.

A worker needs a core. If no core is free, it takes one from the threads of an operator, and such an operator is done only when
its slowest thread is: the step then becomes longer by about what the worker computes. Where training uses one thread, or the
worker waits for a disk, workers cost nothing.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.loading import Loading, Reading, loader_facts, read_again
from mfu_doctor.analysis.evidence.loading_lines import OTHER, loading_lines
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.core_waits import OTHERS
from mfu_doctor.units import NS_PER_S

# What is taken where the capture did not measure it, at the low, mid and high end of a prediction.
_UNKNOWN = (1.0, 0.5, 0.0)
LOW, MID, HIGH = 0, 1, 2
_FEWEST = 2  # workers: with one alone each slow batch is waited for
# Beside workers the training thread of a GPU run is slower: they share memory, caches and the clock with it. Measured on the
# pair of V100 ResNet-50 traces with 0 and with 4 workers: its operators take 1.18 times as long in the median, 1.23 in the mean.
_BESIDE_WORKERS = 1.2
_MOSTLY = 0.5
# What cheaper loading leaves of its CPU time at the three ends: how much can be saved in it is not known.
_CHEAPER = (0.75, 0.5, 0.0)
CHEAPER_LOADING = "# decode once and keep it, or make the transforms cheaper"


class LoaderCores(Struct, frozen=True):
    """Who needs which CPU time; nanoseconds per step.

    Attributes:
        count: cores that this process and its workers can have; None if unknown.
        training_ns: CPU time of everything but loading, on all threads.
        loading_ns: CPU time of loading the batches of a step at the three ends; equal if it was measured.
        displaced: share of a new worker's CPU time by which training becomes longer, at the three ends.
        beside_ns: the step of training whose batches are always ready, beside new workers, at the three ends.
        measured: whether the CPU time of this process is known.
        cheaper: what cheaper loading leaves of its CPU time, at the three ends.
        reads_again: whether far more is read for a batch than it has.
    """

    count: float | None
    training_ns: float
    loading_ns: tuple[float, float, float]
    displaced: tuple[float, float, float]
    beside_ns: tuple[float, float, float]
    measured: bool
    cheaper: tuple[float, float, float]
    reads_again: bool

    @property
    def slows(self) -> bool:
        """Whether new workers may make the step of training itself longer."""
        return self.beside_ns[LOW] > self.beside_ns[HIGH] or self.displaced[LOW] > 0

    @property
    def busy(self) -> bool:
        """Whether a new worker is known to take most of its time from training."""
        return self.measured and self.displaced[MID] >= _MOSTLY

    @property
    def loading_known(self) -> bool:
        """Whether the CPU time of loading was measured."""
        return self.loading_ns[LOW] == self.loading_ns[HIGH]

    def least_ns(self, end: int) -> float:
        """The shortest step that the cores allow; 0 if their number is unknown."""
        return 0.0 if self.count is None else (self.training_ns + self.loading_ns[end]) / self.count


def loader_cores(run: Run, loading: Loading) -> LoaderCores:
    """What loading and training need of the cores."""
    loads = _loading_ns(run, loading)
    trains = _training_ns(run, loading, loads[MID])
    count = _available(run, loading)
    host = run.facts.host if run.facts else None
    measured = host is not None and host.cpu_share is not None
    displaced = _displaced(run, loading, count, trains)
    beside, reading = _beside(run, loading), read_again(run, loading)
    cheaper = _cheaper(run, reading)
    return LoaderCores(count, trains, loads, displaced, beside, measured, cheaper, reading is not None)


def busy_share(loading: Loading, cores: LoaderCores) -> float:
    """The share of a core that a worker keeps busy; all of it where nothing tells that it waits."""
    takes = loading.fetches * (loading.batch_ns or 0.0)
    return min(cores.loading_ns[LOW] / takes, 1.0) if takes else 1.0


def workers_wanted(loading: Loading, cores: LoaderCores) -> int:
    """Workers that deliver a batch as fast as the step and the cores allow, not more than find a core for what they compute.

    2 if it is unknown how many there are.
    """
    if loading.batch_ns is None:
        return _FEWEST
    allowed = max(loading.free_ns, cores.least_ns(LOW), 1.0)
    needed = max(math.ceil(loading.fetches * loading.batch_ns / allowed), _FEWEST)
    if loading.workers:
        needed = max(needed, loading.workers + 1)
    busy = busy_share(loading, cores)
    return min(needed, max(int(loading.cores / busy), 1)) if loading.cores and busy else needed


def with_workers(loading: Loading, cores: LoaderCores, workers: int, end: int) -> float:
    """The step with so many workers in nanoseconds, at one end of the prediction."""
    delivered = 0.0 if loading.batch_ns is None else loading.fetches * loading.batch_ns / workers
    beside = cores.beside_ns[end] + cores.displaced[end] * cores.loading_ns[end]
    return min(max(beside, delivered, cores.least_ns(end)), loading.step_ns)


def with_cheaper_loading(loading: Loading, cores: LoaderCores, end: int) -> float:
    """The step if loading needed less CPU time and nothing else changed, in nanoseconds.

    Where nearly all that is read is read for nothing, all of loading shrinks, and not its CPU time alone.
    """
    workers = max(loading.workers or 1, 1)
    takes = loading.fetches * (loading.batch_ns or 0.0) if cores.reads_again else cores.loading_ns[MID]
    saved = (1.0 - cores.cheaper[end]) * takes / workers
    return max(loading.step_ns - saved, loading.least_ns)


def taken_by_others(run: Run) -> float:
    """Cores that other processes take from this program: what they use, but no more than was waited for because of them.

    Processes of low priority use what is left, and leave it to whoever wants it.
    """
    host, waits = run.facts.host if run.facts else None, run.core_waits
    used = (host.other_cores if host is not None else None) or 0.0
    return used if isinstance(waits, str) else min(used, waits.because_of(OTHERS)[2])


def _loading_ns(run: Run, loading: Loading) -> tuple[float, float, float]:
    facts, host = loader_facts(run), run.facts.host if run.facts else None
    most = loading.fetches * (loading.batch_ns or 0.0)
    if loading.workers and host is not None and host.worker_cpu_share is not None:
        return (host.worker_cpu_share * loading.step_ns,) * 3
    if loading.workers == 0 and facts is not None and facts.cpu_s is not None:
        return (min(loading.fetches * facts.cpu_s * NS_PER_S, most),) * 3
    share = _busy_share(run, loading)
    return (share * most,) * 3 if share is not None else (_UNKNOWN[LOW] * most, _UNKNOWN[MID] * most, _UNKNOWN[HIGH])


def _cheaper(run: Run, reading: Reading | None) -> tuple[float, float, float]:
    """What cheaper loading leaves: where nobody was seen to do what is the same each time, what was read tells."""
    lines = loading_lines(run)
    if reading is not None and (lines is None or lines.kind == OTHER):
        return max(reading.share, _CHEAPER[MID]), reading.share, 0.0
    if lines is None:
        return _CHEAPER
    low, mid, high = (lines.left(unknown) for unknown in _CHEAPER)
    return low, mid, high


def _busy_share(run: Run, loading: Loading) -> float | None:
    """Share of a fetch without workers in which it keeps a core busy, from the process's CPU time; None if unknown.

    It is assumed that training uses all its threads: a part of them would leave more of the CPU time to the fetch.
    """
    host = run.facts.host if run.facts else None
    if not run.is_cpu or loading.workers != 0 or host is None or host.cpu_share is None or not host.torch_threads:
        return None
    fetching = loading.fetches * loading.fetch_ns
    computing = host.torch_threads * (loading.step_ns - fetching)
    return float(np.clip((host.cpu_share * loading.step_ns - computing) / fetching, 0.0, 1.0))


def _training_ns(run: Run, loading: Loading, loads: float) -> float:
    """CPU time of training: what the process used without loading in it, else all threads of a CPU-only run, else one thread."""
    host = run.facts.host if run.facts else None
    if host is not None and host.cpu_share is not None:
        used = host.cpu_share * loading.step_ns - (0.0 if loading.workers else loads)
        return max(used, loading.free_ns if run.is_cpu else 0.0)
    return _threads(run, loading.cores) * loading.free_ns


def _threads(run: Run, cores: float | None) -> float:
    host = run.facts.host if run.facts else None
    threads = float(host.torch_threads) if host and host.torch_threads else (cores or 1.0)
    return min(threads, cores or threads) if run.is_cpu else 1.0


def _available(run: Run, loading: Loading) -> float | None:
    """Cores without those that other processes hold, at least what this process and its workers used."""
    host = run.facts.host if run.facts else None
    if loading.cores is None or host is None:
        return loading.cores
    own = (host.cpu_share or 0.0) + (host.worker_cpu_share or 0.0)
    return max(loading.cores - taken_by_others(run), min(own, loading.cores))


def _displaced(run: Run, loading: Loading, count: float | None, trains: float) -> tuple[float, float, float]:
    """What a worker's CPU time costs training: nothing beside a GPU or a free core, all of it if all cores are in use.

    Running workers have cost it already. The share is how much of training's time uses the cores beyond the first one.
    """
    if not run.is_cpu or loading.workers:
        return 0.0, 0.0, 0.0
    host = run.facts.host if run.facts else None
    if count is None or host is None or host.cpu_share is None:
        return _around(_UNKNOWN[MID])
    if _threads(run, loading.cores) + 1 <= count:
        return 0.0, 0.0, 0.0
    if count <= 1:
        return 1.0, 1.0, 1.0
    return _around(float(np.clip((trains / max(loading.free_ns, 1.0) - 1.0) / (count - 1.0), 0.0, 1.0)))


def _beside(run: Run, loading: Loading) -> tuple[float, float, float]:
    """The step beside new workers: where the training thread of a GPU run limits it, it is longer by what that is slower then."""
    least = loading.least_ns
    if run.is_cpu or loading.workers:
        return least, least, least
    steady = steady_of(run)
    working = steady.host_ns(steady.host - run.host.fetch - run.host.blocking)
    slower = min(max(least, _BESIDE_WORKERS * working), loading.step_ns)
    return slower, slower, least


def _around(share: float) -> tuple[float, float, float]:
    """A share with its ends: half-way to all, and none."""
    return (share + 1.0) / 2, share, 0.0
