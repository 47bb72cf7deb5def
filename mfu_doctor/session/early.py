"""What a block says while it goes on: when it records, and its report as soon as that is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mfu_doctor.capture.capture import Capture
from mfu_doctor.capture.loop.edges import Source
from mfu_doctor.capture.loop.schedule import Phase
from mfu_doctor.files import is_stream
from mfu_doctor.quantities import counted, duration
from mfu_doctor.session.beside import Beside
from mfu_doctor.session.ending import told_of_run
from mfu_doctor.session.report_process import Made

# What evaluation and inference show too: their report comes at the end, when it is known that no training came after them.
_NO_TRAINING = (Source.BLOCK, Source.MODULE, Source.FETCH)
# A block that ends so soon after its recording has its report made at once, with all that is known of it then.
_HEAD_START_S = 1.0
_LONGEST_WAIT_S = 5.0  # at the end of the block; then the report is made there
_ENOUGH = 3  # steps that tell how long steps take
UNLIKE = 0.1  # of a step: the same program on the same machine differs from itself by so much
_FAILED = "the report could not be made beside the training"


class EarlyReport:
    """Says what one capture does and prints its report.

    Args:
        capture: what records.
        say: prints a text.
        folder: where the program was started.
        places: where modules are found.

    Attributes:
        printed: whether the report was printed.
    """

    def __init__(
        self,
        capture: Capture,
        say: Callable[[str], None],
        folder: Path | None,
        places: Sequence[str],
    ) -> None:
        self.printed = False
        self._capture, self._say, self._folder, self._places = capture, say, folder, places
        self._beside: Beside | None = None
        self._step_s: float | None = None  # as the printed report says
        self._before = self._after = (0, 0)  # un-profiled steps and their time when it began, and when it was there
        self._enter = capture.phase_runner.enter
        capture.phase_runner.enter = self._entered

    def recorded(self, path: Path) -> None:
        """The recording is written and the block goes on."""
        capture = self._capture
        if capture.detector.source in _NO_TRAINING or is_stream(path):
            return
        self._say("mfu-doctor: recorded, profiler off; the report follows, and the training goes on")
        self._before = self._after = self._steps
        self._beside = capture.notes.guarded(_FAILED, Beside, path, self._folder, self._places, self._made)

    def finish(self) -> bool:
        """The block is over; returns whether its report was printed."""
        beside = self._beside
        if beside is None:
            return self.printed
        try:
            is_near = beside.took_s is not None or beside.seconds >= _HEAD_START_S
            if not (is_near and beside.finish(_LONGEST_WAIT_S)):
                beside.stop()
        except BaseException:  # Ctrl-C: whoever waits no more wants no report
            beside.stop()
            raise
        for note in beside.notes.said:
            self._capture.notes.say(note)
        return self.printed

    def stop(self) -> None:
        """Another block takes over."""
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.stop()

    @property
    def told_more(self) -> str | None:
        """What the whole run adds to the printed report; None if its steps took otherwise than that says: it is due again."""
        run = None if self._capture.facts is None else self._capture.facts.whole_run
        step_s = None if run is None else run.step_s
        if self._step_s and step_s and abs(step_s - self._step_s) > UNLIKE * self._step_s:
            self._say(
                f"mfu-doctor: later steps took {'less' if step_s < self._step_s else 'more'} than the {duration(self._step_s)} "
                "that the report above states: here is that of the whole run"
            )
            return None
        sentences = (None if run is None else told_of_run(run), self._cost)
        return "\n".join(f"mfu-doctor: {sentence}" for sentence in sentences if sentence is not None)

    @property
    def _cost(self) -> str | None:
        """What steps took while the report was made, in a sentence; None if too few tell."""
        took_s = None if self._beside is None else self._beside.took_s
        during, later = _between(self._before, self._after), _between(self._after, self._steps)
        if took_s is None or min(during[0], later[0]) < _ENOUGH:
            return None
        ratio = (during[1] / during[0]) / (later[1] / later[0])
        return (
            f"the report was made beside {counted(during[0], 'step')} in {duration(took_s)}: "
            f"they took {ratio:.2f} times as long as the {later[0]:,} after them"
        )

    @property
    def _steps(self) -> tuple[int, int]:
        times = self._capture.watch.clock.times
        return times.count, times.total_ns

    def _entered(self, phase: Phase) -> None:
        self._enter(phase)
        if phase is Phase.TIMING:
            runner = self._capture.phase_runner
            first, last = runner.index, runner.index + runner.plan.active - 1
            steps = f"step {first}" if last == first else f"steps {first}-{last}"
            self._say(f"mfu-doctor: recording {steps} with the profiler")

    def _made(self, made: Made) -> None:
        """In the thread that waited for it."""
        self.printed, self._step_s = True, made.step_s
        self._say(made.text)
        self._after = self._steps
        self._capture.samplers.look_on()  # from now on nothing else of ours takes processor time


def _between(first: tuple[int, int], last: tuple[int, int]) -> tuple[int, int]:
    return last[0] - first[0], last[1] - first[1]
