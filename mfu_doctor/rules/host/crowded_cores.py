"""Training's threads wait for a core, because workers of the loader, other children or too many threads have the cores.

What it measures
    The kernel counts for each thread how long it could have run and had no core. mfu_doctor.profile() reads these counts where
    the steps without the profiler begin and end, and what everybody on the machine used of the cores meanwhile.

Why it costs
    The threads of a pool share the work of an operator, which is done when the slowest of them is. A worker that keeps a core
    busy takes turns with one of these threads, and the others wait for it. So operators become slower by more than the share of
    the cores that the worker takes, although nothing waits for data and every operator seems to compute.

How the gain is predicted
    Low: the step is longer by what the training thread waits, and by a fifth of what its pool waits: a thread of the pool also
    waits when it has nothing to do. Mid: by what operators take more than in the steps in which each of them was quick, but by
    45 % of what the pool waits at least. High: by 1.25 times the waits of all threads, because a thread that gets its core back
    finds other data in the caches. It is divided by what each of those who have the cores used of them.
    Loader, other children, other threads of the program: low a quarter less CPU time, mid three quarters less, high none left;
    what workers were seen to read, decode or tokenize is gone at all ends.
    Workers that read far more than a batch has: low half, mid the part that a batch needs.
    More threads than cores: low a half, mid 85 %, high all of the cores' time in which none of them runs.
    Replay gives the new step time: host time and operators become shorter by this share, waits for a GPU do not. Workers that
    have less to do deliver as much sooner: what training waits for a batch then goes as far as it is ready in time.

How to fix
    Give the workers less to do: decode and resize each sample once and keep it, store smaller files, let the decoder scale
    (Image.draft for JPEG). Or give them cores of their own, or load on another machine. Let other processes run before or after
    the training. If there are more threads than cores: torch.set_num_threads(N), or OMP_NUM_THREADS=N before Python starts.

When it is wrong
    How much of the workers' CPU time can be saved depends on the transforms. A thread of the pool can wait for a core although
    nobody needs what it would do: then the upper estimate is too high. Time that a hypervisor gives to other machines is not
    counted by the kernel. Waiting because of processes that are not of this run is not a fault of it: see busy-machine.

References
    https://docs.kernel.org/scheduler/sched-stats.html (/proc/<pid>/schedstat)
    https://pytorch.org/docs/stable/notes/cpu_threading_torchscript_inference.html
"""

from __future__ import annotations

from msgspec import Struct

from mfu_doctor.analysis.evidence.cheaper_loading import cheaper_ends, how_cheaper, told_of
from mfu_doctor.analysis.evidence.given_back import busiest_thread, given_back
from mfu_doctor.analysis.evidence.loading import Reading, deliver_every, loader_facts, loading_of, read_again
from mfu_doctor.analysis.evidence.loading_lines import loading_lines
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, PaceWorkers
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.core_waits import CHILDREN, HELPERS, LOADER, MACHINES, OTHERS, OWN, CoreWaits
from mfu_doctor.quantities import number, percent_range, share, significant
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Effort, Finding, Outcome, Risk, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


class _Taker(Struct, frozen=True):
    """One who has the cores: in words, what to do about it, and what is left of its part of the delay at the three ends."""

    words: str
    fix: str
    left: tuple[float, float, float]
    decides: Ends
    effort: Effort = "refactor"
    risk: Risk = "none"


# What is left of the workers' CPU time at the three ends: how much can be saved in it is not known. Keeping decoded images left
# 0.2 % of it where a sample was only flipped afterwards, and 57 % where it was cropped, resized and normalized.
_LEFT = (0.75, 0.25, 0.0)
LONGER = "longer step"  # evidence: by how much
_HALF = 0.5  # stays at the low end where most of what is read is dropped, as in input-bound
_CHEAPER_ENDS = Ends(low="it gets a quarter cheaper", high="loading takes no core any more")
_LESS_ENDS = Ends(low="a quarter of this goes", high="all of it runs at another time")
_THREADS_ENDS = Ends(low="half of it goes", high="all idle time of the cores goes")


@rule(
    "crowded-cores",
    "HO039",
    "training's threads wait for a core",
    needs=(Need.FACTS,),
    also=("oversubscription", "cpu-quota", "throttling", "thread-contention", "decode-workers"),
)
def crowded_cores(run: Run) -> Outcome:
    """Judge how long training waits for a core that this program itself keeps busy."""
    waits = run.core_waits
    if isinstance(waits, str):
        return Skip(waits)
    who = max((LOADER, CHILDREN, HELPERS, OWN), key=lambda one: waits.had[one])
    delay = waits.because_of(who)
    if delay[1] < WORTH_SHARE:
        return None
    taker, steady = _taker(run, waits, who), steady_of(run)
    return Finding(
        summary=f"Waiting for a core takes {share(delay[1], 1.0)} of the step: {taker.words}",
        fix=taker.fix,
        detail=_detail(run, waits, who),
        decides=taker.decides,
        change=_change(run, delay, taker.left, loads=who == LOADER),
        evidence=(
            shown(LONGER, delay[1] * seconds(steady.step_ns), "s"),
            *(shown(_NAMES[one], had, "cores") for one, had in waits.had.items() if had and one != OWN),
            shown("usable cores", waits.cores, "count"),
        ),
        place=_place(run) if who == LOADER else None,
        effort=taker.effort,
        risk=taker.risk,
        confidence="hint" if who == LOADER and _read_again(run) is None else "modelled",
    )


_NAMES = {
    LOADER: "loader's workers",
    CHILDREN: "other child processes",
    HELPERS: "other threads of the program",
    OTHERS: "other processes",
    MACHINES: "other virtual machines",
}


def _taker(run: Run, waits: CoreWaits, who: str) -> _Taker:
    cores = number(waits.cores)
    if who == LOADER:
        words = f"the loader's workers use {significant(waits.had[who], 2)} of {cores} cores"
        again, lines = _read_again(run), loading_lines(run)
        fix = how_cheaper(lines, again)
        if again is None:
            low, mid, high = (left if lines is None else lines.left(left) for left in _LEFT)
            named = lines is not None and lines.function is not None
            return _Taker(words, fix, (low, mid, high), cheaper_ends(lines, None) if named else _CHEAPER_ENDS)
        left = max(again.share, _HALF), again.share, 0.0
        return _Taker(f"{words}; {told_of(again)}", fix, left, cheaper_ends(None, again))
    if who == CHILDREN:
        words = f"processes that the program started use {significant(waits.had[who], 2)} of {cores} cores"
        return _Taker(words, "# run these processes before or after training, or on other cores", _LEFT, _LESS_ENDS)
    if who == HELPERS:
        words = f"{busiest_thread(run)} uses {significant(waits.had[who], 2)} of {cores} cores"
        return _Taker(words, "# give this thread less to do: write, log or load less often in it", _LEFT, _LESS_ENDS)
    ranks = (run.facts.world_size if run.facts is not None else None) or 1
    host = run.facts.host if run.facts is not None else None
    threads = (host.torch_threads if host is not None else None) or 1
    words = f"{threads} threads{f' in each of {ranks} ranks' if ranks > 1 else ''} share {cores} cores"
    fix = f"torch.set_num_threads({max(int(waits.cores) // ranks, 1)})"
    return _Taker(words, fix, (0.0, 0.0, 0.0), _THREADS_ENDS, effort="setting", risk="rounding")


def _read_again(run: Run) -> Reading | None:
    loading = loading_of(run)
    return None if loading is None else read_again(run, loading)


def _place(run: Run) -> str | None:
    """The line that the workers are at for most of their time; if nobody saw it, where the dataset begins to make a sample."""
    lines, facts = loading_lines(run), loader_facts(run)
    return lines.place if lines is not None else facts.sample_place if facts is not None else None


def _detail(run: Run, waits: CoreWaits, who: str) -> str:
    least, _, most = waits.delay
    lines = loading_lines(run) if who == LOADER else None
    return (f"{lines.takes}; " if lines is not None else "") + (
        f"in all, {percent_range(least, most)} of the step; operators look slow because of it, and the savings of other fixes "
        "are predicted as if it stayed"
    )


def _change(run: Run, delay: tuple[float, float, float], left: tuple[float, float, float], *, loads: bool) -> Change:
    """Workers that compute less also deliver as much sooner: waits for a batch go together with waits for a core."""
    loading = loading_of(run) if loads else None

    def end(longer: float, kept: float) -> tuple[Edit, ...]:
        back = given_back(run, (1.0 - kept) * longer)
        if not loads:
            return (back,)
        sooner = back, PaceWorkers(kept)
        if loading is None or loading.batch_ns is None:
            return sooner
        return deliver_every(run, loading, kept * loading.batch_ns / max(loading.workers or 1, 1), sooner)

    return Change(*map(end, delay, left))
