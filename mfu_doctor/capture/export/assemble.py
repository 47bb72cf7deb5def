"""The metadata of a finished capture, and the choice of its recordings for the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.capture.capture import Capture
from mfu_doctor.capture.facts.host import host_facts, with_shares
from mfu_doctor.capture.facts.settings import (
    allocator_now,
    compile_facts,
    compiled_now,
    memory_facts,
    place_in_job,
    versions,
)
from mfu_doctor.capture.loop.edges import Source
from mfu_doctor.capture.loop.schedule import Phase, length
from mfu_doctor.capture.loop.stopwatch import cuda_in_use
from mfu_doctor.capture.profiler.phase_runner import PhaseRunner
from mfu_doctor.capture.profiler.recording import Recording, StepRow
from mfu_doctor.capture.seen import Seen
from mfu_doctor.facts import Facts, HostFacts, MeasuredPeak, Schedule, Window
from mfu_doctor.version import __version__

_ENOUGH_TIMES = 3  # timed steps below which other warm, un-profiled steps help the median
_MANY = 2  # times as many steps as the timed ones stand for the run better
_NO_TRAINING = (Source.BLOCK, Source.MODULE, Source.FETCH)  # what evaluation and inference show too
_MOST_TIMES = 1000  # in the file
_DIGITS = 9  # nanoseconds


class Chosen(Struct, frozen=True):
    """The recordings that go into the file; the first look stands in for a window that the run was too short for."""

    timing: Recording | None
    shapes: Recording | None

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the facts say about them."""
        pairs = ((self.timing, "timing"), (self.shapes, "shapes"))
        return tuple(recording.window(kind) for recording, kind in pairs if recording is not None)

    @property
    def recordings(self) -> list[Recording]:
        """Timing first."""
        return [recording for recording in (self.timing, self.shapes) if recording is not None]


def choose(phase_runner: PhaseRunner) -> Chosen:
    """Pick the recordings to keep.

    The first look sees the host only, so with CUDA in use it can give shapes but never times.
    """
    usable = {kind: recording for kind, recording in phase_runner.recordings.items() if recording.usable}
    look = usable.get("look")
    timing = usable.get("timing") or usable.get("shapes") or (None if cuda_in_use() else look)
    shapes = usable.get("shapes") or look
    if timing is None:
        return Chosen(None, None)
    return Chosen(timing, None if shapes is timing else shapes)


def assemble(capture: Capture, chosen: Chosen, peaks: tuple[MeasuredPeak, ...]) -> Facts:
    """Everything known about the run.

    Args:
        capture: the finished capture.
        chosen: the recordings that the file holds.
        peaks: peaks measured on this machine, for runs on a CPU.
    """
    phase_runner, seen, loop = capture.phase_runner, capture.seen, capture.seen.loop
    place, timed = place_in_job(), timed_rows(capture)
    detector = capture.detector
    loop.updates = detector.turns.updates(detector.rhythm.anchor)
    facts = Facts(
        **_optional(capture),
        tool_version=__version__,
        site=capture.request.site,
        rank=place.rank,
        local_rank=place.local_rank,
        world_size=place.world_size,
        step_source=detector.source.value,
        asked=capture.request.asked,
        recorded=counted(phase_runner, chosen),
        timed_steps_s=_seconds(timed),
        profiled_steps_s=_seconds(chosen.timing.rows if chosen.timing else []),
        after_steps_s=_seconds([row for row in phase_runner.rows if row.phase is Phase.AFTER]),
        micro_batches=_per_update(phase_runner.rows, max(loop.updates.values(), default=1.0)),
        windows=chosen.windows,
        gc_pauses=tuple(seen.pauses),
        frames=seen.frames,
        worker_frames=seen.worker_frames,
        given=capture.request.given,
        measured_peaks=peaks,
        samples=seen.samples,
        sampler_status=seen.sampler_status,
    )
    whole = capture.notes.guarded("the account of the run could not be told", with_whole_run, capture, facts)
    return replace(whole or facts, notes=tuple(capture.notes.said))


def _optional(capture: Capture) -> dict[str, Any]:
    """Facts by their names that each can fail alone, since they ask the user's objects, torch or the machine."""
    seen, loop = capture.seen, capture.seen.loop
    readers: dict[str, Callable[[], Any]] = {
        "versions": versions,
        "batch_shape": lambda: loop.batch_shape,
        "batch_elements": lambda: loop.batch_elements,
        "precision": lambda: loop.settings.precision(loop.autocast_dtype),
        "loaders": lambda: loop.loaders,
        "optimizers": lambda: loop.optimizers,
        "repeated_calls": seen.calls.found,
        "repeated_gradients": seen.derived.found,
        "unused_gradients": seen.gradients.unused,
        "graph_depths": seen.gradients.depths,
        "ignored_targets": seen.targets.ignored,
        "sparse_operands": seen.zeros.found,
        "kept_scores": seen.masks.found,
        "constant_results": seen.results.found,
        "padded": lambda: seen.padded.told,
        "parameter_elements": lambda: loop.parameter_elements,
        "parameter_dtypes": lambda: loop.parameter_dtypes,
        "compile": lambda: compile_facts(seen.compiled, compiled_now()),
        "memory": lambda: memory_facts(seen.allocator, allocator_now()),
        "host": lambda: _host(seen),
    }
    if seen.gradients.gave_up is not None:
        capture.notes.say(seen.gradients.gave_up)
    told = {name: capture.notes.guarded(f"{_words(name)} could not be told", read) for name, read in readers.items()}
    return {name: value for name, value in told.items() if value is not None}


def _words(name: str) -> str:
    return name.replace("_", " ")


def with_whole_run(capture: Capture, facts: Facts) -> Facts:
    """The facts with the account of the block so far, and with steps that stand for the run.

    These are the un-profiled steps of all the run after its beginning, once they are more than twice those timed beside the
    recording: five steps at the start differ from what the program takes later by a tenth in the median, and by half at times.
    """
    if not capture.watch.clock.steps:
        return facts
    run = capture.account()
    steps, waits = capture.watch.clock.times.settled(run.startup_steps, _MOST_TIMES)
    beside = facts.beside_steps_s or facts.timed_steps_s
    course = capture.watch.course(run.startup_steps)
    facts = replace(facts, whole_run=run, course=course, beside_steps_s=beside, notes=tuple(capture.notes.said))
    if not capture.watch.ended or len(steps) <= _MANY * max(len(beside), 1):
        return facts
    facts = replace(facts, timed_steps_s=_rounded(steps), timed_waits_s=_rounded(waits))
    rest, host = capture.seen.rest, facts.host
    if host is None or rest is None or not rest.is_training or rest.wall_s < (host.shares_s or 0.0):
        return facts
    return replace(facts, host=with_shares(host, rest.before, rest.after))


def _host(seen: Seen) -> HostFacts:
    """The machine; the number of threads is the one inside of the steps."""
    host = host_facts(*seen.busy)
    return host if seen.loop.settings.threads is None else replace(host, torch_threads=seen.loop.settings.threads)


def timed_rows(capture: Capture) -> list[StepRow]:
    """The steps whose times are used: the timed phase, else all steps without the profiler after the warm-up.

    Steps with another number of fetches than most are left out: they contain the end of an epoch or a validation loop.
    """
    plain = [row for row in capture.phase_runner.rows if not row.recorded]
    timed = [row for row in plain if row.phase is Phase.TIMED]
    if len(timed) < min(_ENOUGH_TIMES, capture.request.asked.timed):
        block = capture.detector.source is Source.BLOCK
        timed = [row for row in plain if block or (row.index > 0 and row.phase is not Phase.WARMUP)]
    most = Counter(row.fetches for row in timed).most_common(1)
    return [row for row in timed if row.fetches == most[0][0]]


def explain_length(capture: Capture, chosen: Chosen) -> None:
    """Say how a short or shapeless run was handled."""
    phase_runner, asked, notes = capture.phase_runner, capture.request.asked, capture.notes
    seen = len(phase_runner.rows)
    others = capture.samplers.children.who_trains() if capture.detector.source in _NO_TRAINING else None
    if others is not None:
        notes.say(others)
    if capture.detector.source is Source.BLOCK:
        if others is not None and chosen.timing is None:
            return
        notes.say(
            "no optimizer step, backward pass, DataLoader batch or step() was seen: "
            "all code inside profile() is treated as one step"
            + ("" if chosen.timing else "; call step(), or record all of it with skip=0, timed=0, warmup=0")
        )
        return
    wanted = length(asked)
    if phase_runner.plan != asked:
        plan = phase_runner.plan
        notes.say(
            f"the data loader has {phase_runner.available} steps: recorded with skip={plan.skip}, timed={plan.timed}, "
            f"warmup={plan.warmup}, active={plan.active}"
        )
    if seen >= wanted:
        return  # a window that is missing all the same has its own note
    if chosen.timing is None:
        notes.say(
            f"profile() ended after {seen} of {wanted} steps and recorded none; "
            "pass smaller skip, timed and warmup, or run more steps"
        )
    elif chosen.timing.kind == "look":
        notes.say(f"profile() ended after {seen} of {wanted} steps: only the second step was recorded")
    elif len(chosen.timing.rows) < phase_runner.plan.active:
        notes.say(f"profile() ended after {seen} of {wanted} steps: {len(chosen.timing.rows)} recorded")


def counted(phase_runner: PhaseRunner, chosen: Chosen) -> Schedule:
    """The steps of each phase as they really happened."""
    count = Counter(row.phase for row in phase_runner.rows)
    return Schedule(
        skip=count[Phase.SKIP],
        timed=count[Phase.TIMED],
        warmup=count[Phase.WARMUP],
        active=len(chosen.timing.rows) if chosen.timing else 0,
        shapes=len(chosen.shapes.rows) if chosen.shapes else 0,
    )


def _per_update(rows: list[StepRow], updates: float) -> float | None:
    """Fetches for each of so many updates in a step; None if the loop's fetches are not seen."""
    counts = [row.fetches for row in rows if row.index > 0] or [row.fetches for row in rows]
    return round(sum(counts) / len(counts) / updates, 3) if any(counts) else None


def _seconds(rows: list[StepRow]) -> tuple[float, ...]:
    return _rounded(row.seconds for row in rows)


def _rounded(seconds: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(value, _DIGITS) for value in seconds)
