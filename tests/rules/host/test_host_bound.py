"""host-bound: fires where the device waits for launches, is silent where it is busy, and tells pauses from dispatch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.replay.edits import Change, ScaleDevice, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.pricing import price_findings, scale_of
from mfu_doctor.facts import FrameSample, HostFacts
from mfu_doctor.facts.core_turns import CoreTurns
from mfu_doctor.facts.whole_run import LONG, Elsewhere, WholeRun
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.host_bound import host_bound
from mfu_doctor.rules.host.long_steps import long_steps
from tests.rules.drawing import training
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def loop(ops: int, kernel: int, host: int, *, pause: int = 0, device: bool = True, between: int = 0) -> Timeline:
    drawn = Timeline() if device else Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            for _ in range(ops):
                drawn.op("aten::mm", kernel=kernel if device else None, host=host)
                drawn.python(between)
            drawn.python(pause)
    return drawn


def test_short_kernels_are_priced_up_to_what_the_device_needs() -> None:
    # 100 operators of 40 us on the host and 10 us on the device: 4 ms, of which the device needs 1
    price = price_us(host_bound, run_of(loop(100, 10, 40)))
    assert price.high_ns == close(4_000 - 1_000)
    assert price.mid_ns == close(4_000 - 1_000)  # a graph launch of 100 nodes takes the host 200 us: hidden
    # every step launches the same and waits for nothing: a graph fits, and at worst 30 % of the 4 ms stay
    assert price.low_ns == close(4_000 * 0.7)
    assert "100 kernels" in found(host_bound, run_of(loop(100, 10, 40))).summary


def test_pointwise_chains_give_the_low_end_where_no_graph_fits() -> None:
    drawn = Timeline()
    for step in range(6):
        with drawn.step():
            if step == 3:
                drawn.op("aten::mul", kernel=1, host=1)  # so that the steps are not the same
            for _ in range(50):
                drawn.op("aten::mm", kernel=5, host=40, kernel_name="ampere_sgemm_128x64_tn")
                drawn.op("aten::add", kernel=5, host=40, kernel_name="vectorized_elementwise_kernel<4, add>")
                drawn.op("aten::relu", kernel=5, host=40, kernel_name="vectorized_elementwise_kernel<4, relu>")
    # 50 of 150 launches follow another pointwise one: L (1 - r), a third of the 150 times 35 us that the device waits
    assert price_us(host_bound, run_of(drawn)).low_ns == close(150 * 35 / 3)


def test_where_no_graph_fits_some_launching_stays() -> None:
    """The high end once left nothing of it, as if the step that waits in its middle were a graph."""
    assert price_us(host_bound, run_of(launching())).high_ns == close(50 * 30)  # the device needs 10 of 40 us
    assert price_us(host_bound, run_of(launching(sync=True))).high_ns == close(50 * 40 * 0.7)


def test_launching_the_optimizer_stays_where_the_model_is_compiled() -> None:
    def stepping(name: str) -> Run:
        drawn = Timeline()
        for _ in range(6):
            with drawn.step():
                for _ in range(50):
                    drawn.op("aten::mm", kernel=5, host=40)
                with drawn.span(name):
                    for _ in range(50):
                        drawn.op("aten::addcdiv_", kernel=5, host=40)
        return run_of(training(drawn))

    price = price_us(host_bound, stepping("Optimizer.step#Lion.step"))
    assert price.mid_ns == close(50 * 40 * 0.95)  # the 50 operators of the model become one launch
    assert price.high_ns == close(100 * 35)
    assert price_us(host_bound, stepping("metrics")).mid_ns == close(100 * 35)


def test_a_busy_device_is_no_finding() -> None:
    silent(host_bound, run_of(loop(100, 60, 20)))


def test_long_pauses_are_the_programs_own_and_cost_what_they_take() -> None:
    run = run_of(loop(4, 1_000, 20, pause=9_000))
    finding = found(host_bound, run)
    assert finding.summary == "GPU waits for the CPU 56 % of the step (Python)"
    price = price_us(host_bound, run)
    # 80 us of issuing and 9 ms of Python against 4 ms of kernels: the device waits 5 ms for the host
    assert price.low_ns == close(5_080 / 2)
    assert price.mid_ns == close(9_080 - 4_000)


def test_a_trace_without_steps_is_not_judged() -> None:
    drawn = Timeline()
    drawn.op("aten::mm", kernel=10, host=4_000)
    drawn.op("aten::mm", kernel=10, host=4_000)
    assert isinstance(host_bound.judge(run_of(drawn)), Skip)


def test_on_a_cpu_python_between_operators_is_priced() -> None:
    run = run_of(loop(10, 0, 400, between=10, pause=4_000, device=False))
    price = price_us(host_bound, run)
    assert price.mid_ns == close(4_000)
    assert price.low_ns == close(2_000)


def test_on_a_cpu_python_inside_the_optimizer_is_the_optimizers() -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=4_000)
            with drawn.span("Optimizer.step#AdamW.step"):
                drawn.python(1_000)
                drawn.op("aten::add_", host=50)
    silent(host_bound, run_of(drawn))


def test_on_a_cpu_ordinary_dispatch_is_no_finding() -> None:
    silent(host_bound, run_of(loop(10, 0, 400, between=10, device=False)))


def test_on_a_cpu_a_compiler_is_not_known_to_make_dispatch_faster() -> None:
    """Gaps of 20 us around operators of 60: eager and compiled steps of such models took 0.8 to 1.2 times each other."""
    price = price_us(host_bound, run_of(loop(50, 0, 60, between=20, device=False)))
    assert price.low_ns == 0
    assert price.mid_ns == close(50 * 20 / 2)


def test_on_a_cpu_many_gaps_that_are_longer_than_dispatch_are_python() -> None:
    """Each of 40 gaps is 1.6 % of the step, and all of them take half of it."""
    run = run_of(loop(40, 0, 300, between=320, device=False))
    assert found(host_bound, run).summary.startswith("Python between operators takes")
    assert price_us(host_bound, run).low_ns > 0.1 * 40 * 620


def sampled(
    place: str,
    *,
    ops: str = "train.py:50",
    cpu: float | None = None,
    library: str | None = None,
    busy_cpu: float = 1.0,
    between: int = 10,
    **facts: Any,
) -> Run:
    """Steps of 4 ms of operators and a pause of 4 ms; `place` is seen in the pauses, `ops` while operators run.

    `cpu`: the share of the pauses in which the thread was on a CPU; `busy_cpu`: the same for operators.
    """
    drawn = loop(10, 0, 400, between=between, pause=4_000, device=False)
    base = 1_000_000_000_000
    drawn.header["baseTimeNanoseconds"] = base
    busy = [(e["ts"], e["ts"] + e["dur"]) for e in training(drawn).events if e["cat"] == "cpu_op"]
    frames, spent = [], 0.0
    for us in range(0, drawn.now, 200):
        running = any(start - 10 <= us < end for start, end in busy)
        spent += 200 * (busy_cpu if running or cpu is None else cpu)
        told = None if cpu is None else int(spent * 1000)
        frames.append(
            FrameSample(
                time_ns=base + us * 1000,
                place=ops if running else place,
                library=None if running else library,
                cpu_ns=told,
            )
        )
    return run_of(drawn, frames=tuple(frames), **facts)


def test_the_line_that_a_capture_sampled_in_the_pause_is_named() -> None:
    finding = found(host_bound, sampled("train.py:41"))
    assert finding.place == "train.py:41"
    assert finding.fix == "# make train.py:41 cheaper, or move it out of the training step"


def test_a_line_that_issues_operators_is_the_step_itself() -> None:
    """`trainer.fit(...)`, `model(x)` and `loss.backward()` are where the thread is in gaps and in operators."""
    finding = found(host_bound, sampled("train.py:50"))
    assert finding.place is None
    assert "train.py" not in finding.fix


def test_a_little_python_of_which_no_line_has_most_is_that_of_any_program() -> None:
    """A healthy program was told to "make the Python work cheaper": a tenth of its step, at no line."""
    drawn = loop(10, 0, 400, pause=500, device=False)
    silent(host_bound, run_of(drawn, frames=()))
    assert found(host_bound, run_of(drawn)).place is None  # nobody looked
    dispatched = loop(
        100, 0, 20, between=20, pause=300, device=False
    )  # half of the step is dispatch, a line moves none of it
    assert found(host_bound, run_of(dispatched, frames=())).summary.startswith("Dispatching 100 operators")
    assert found(host_bound, run_of(loop(10, 0, 400, pause=2_000, device=False), frames=())).place is None


def trained_by_a_library(call: str) -> Run:
    """Every second step saves for 20 ms, in a library whose fit() the program calls once; the loop is within it."""
    drawn = Timeline(device=None)
    base = 1_000_000_000_000
    drawn.header["baseTimeNanoseconds"] = base
    frames: list[FrameSample] = []
    with drawn.span("trainers/loop.py(500): fit", "python_function"):
        for step in range(9):
            with drawn.step(), drawn.span("trainers/loop.py(600): advance", "python_function"):
                drawn.op("aten::mm", host=2_000)
                with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op"):
                    drawn.op("aten::mm", host=2_000)
                saving = 20_000 if step % 2 else 50
                times = range(drawn.now, drawn.now + saving, 500) if saving > 500 else ()
                frames += [
                    FrameSample(time_ns=base + us * 1000, place="run.py:126", library="shutil", call=call)
                    for us in times
                ]
                drawn.python(saving)
    saves = Elsewhere(part=LONG, seconds=0.9, function="Saver.on_step_end", kind="checkpoint", library="trainers")
    whole = WholeRun(elsewhere=(saves,), wall_s=10.0, ended=True, steps=90, steps_s=0.4, long_steps=45, long_s=0.9)
    return run_of(drawn, frames=tuple(frames), whole_run=whole)


def test_a_line_that_calls_a_trainer_is_not_what_to_change() -> None:
    """A checkpoint was laid to `trainer.fit(...)`, the line that was seen while the library saved."""
    assert found(host_bound, trained_by_a_library("json.dump")).place == "run.py:126"
    trained = found(host_bound, trained_by_a_library("trainers.fit"))
    assert trained.place is None
    assert "run.py" not in trained.fix


def test_what_long_steps_do_besides_is_not_counted_twice() -> None:
    assert found(host_bound, trained_by_a_library("trainers.fit")).symptom_of[:2] == ("outside-steps", "long-steps")
    assert found(host_bound, sampled("train.py:41")).symptom_of == ()


def uneven(usual: int, longer: int) -> Run:
    """train.py:41 takes so long in each step, and longer in every fourth."""
    drawn, frames = Timeline(device=None), list[FrameSample]()
    base = 1_000_000_000_000
    drawn.header["baseTimeNanoseconds"] = base
    for step in range(13):
        with drawn.step():
            for _ in range(6):
                drawn.op("aten::mm", host=500)
            until = drawn.now + (longer if step % 4 == 3 else usual)
            frames += [
                FrameSample(time_ns=base + us * 1000, place="train.py:41") for us in range(drawn.now, until, 500)
            ]
            drawn.now = until
    return run_of(drawn, frames=tuple(frames))


def test_a_line_that_takes_longer_in_some_steps_is_counted_in_all() -> None:
    """A list is converted in every step. Half of what long ones have was promised: 7 to 14 of 24 ms, and 5 remained."""
    run = uneven(10_000, 30_000)
    assert found(host_bound, run).symptom_of == ()
    assert price_us(host_bound, run).mid_ns == pytest.approx(15_000, rel=0.03)
    silent(long_steps, run)


def test_a_line_that_takes_most_of_its_time_in_some_steps_is_what_they_do_besides() -> None:
    run = uneven(1_000, 30_000)
    assert found(host_bound, run).symptom_of == ("long-steps",)
    assert found(long_steps, run).place == "train.py:41"


def test_dispatch_in_pytorch_is_not_the_line_that_called_it() -> None:
    assert found(host_bound, sampled("train.py:41", library="torch")).place is None
    assert found(host_bound, sampled("train.py:41", library="json")).place == "train.py:41"


def test_a_line_takes_its_whole_gap_with_it() -> None:
    """Half of it once stayed in the best estimate: a program whose line took 22 of 34 ms was promised 12."""
    run = sampled("train.py:41", cpu=1.0)
    price = price_us(host_bound, run)
    assert price.low_ns == price.mid_ns == close(4_000)
    assert found(host_bound, run).at_best  # "make it cheaper, or move it" leaves open how much goes
    assert not found(host_bound, run_of(launching())).at_best


def test_a_line_takes_its_short_gaps_with_it_too() -> None:
    """Histograms of every parameter: some gaps are long and many short. Only long ones were counted, 101 of 179 ms."""
    price = price_us(host_bound, sampled("train.py:41", cpu=1.0, between=320))
    assert price.mid_ns == pytest.approx(4_000 + 10 * 320, rel=0.03)


def test_a_line_that_feeds_a_thread_gives_the_cores_of_this_thread_back() -> None:
    """Histograms that another thread writes: without the line, operators no longer wait for that thread either."""
    turns = CoreTurns(
        training_ran=0.7, training_waited=0.2, pool_threads=1, pool_ran=0.5, pool_waited=0.0, python_ran=0.3
    )
    host = HostFacts(
        cores=2, affinity=2, torch_threads=2, cpu_share=1.5, worker_cpu_share=0.0, other_cpu_share=0.0, turns=turns
    )
    run = sampled("train.py:41", cpu=1.0, host=host)
    price, step = price_us(host_bound, run), 8_100
    assert price.low_ns == close(4_000)
    assert price.mid_ns == pytest.approx(4_000 + 0.2 * 4_100, rel=0.03)
    assert price.high_ns < step
    assert "a thread that the program started takes cores" in (found(host_bound, run).detail or "")


def test_time_off_the_cpu_goes_with_its_line_but_not_for_sure() -> None:
    named = price_us(host_bound, sampled("train.py:41", cpu=0.75))
    assert named.low_ns == pytest.approx(0.75 * 4_000, rel=0.05)
    assert named.mid_ns == close(4_000)


def test_time_off_the_cpu_at_no_line_is_not_pythons() -> None:
    anybodys = price_us(host_bound, sampled("train.py:50", cpu=0.75))
    assert anybodys.low_ns == pytest.approx(0.75 * 2_000, rel=0.05)
    assert anybodys.mid_ns == pytest.approx(0.75 * 4_000, rel=0.05)
    assert anybodys.high_ns < price_us(host_bound, sampled("train.py:50", cpu=1.0)).high_ns


def test_no_end_saves_more_than_the_device_waits() -> None:
    """A queue that runs dry now and then: without the CPU's time, replay would save more than all of the idle time named."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            for _ in range(50):
                drawn.op("aten::mm", kernel=20, host=40)
            drawn.sync()
    run = run_of(drawn)
    finding = found(host_bound, run)
    waits = run.breakdown.mean_ns("launch", "python", "data_loading") / run.steps.mean_ns
    assert finding.at_most == pytest.approx(waits)
    greedy = replace(
        finding, change=Change.exactly(ScaleHost(run.host.busy, 0.0), ScaleDevice(run.activity.row, np.zeros(300)))
    )
    [priced] = price_findings(run.replay, [(host_bound, greedy)], scale_of(run))
    assert priced.saving is not None
    assert priced.saving.high == pytest.approx(waits * run.mean_step.stated_ns / 1e9)


def test_on_a_busy_machine_python_needs_longer_like_everything_else() -> None:
    """With a quarter of a core the whole step takes four times as long; without the Python, half of it remains."""
    run = sampled("train.py:41", cpu=0.25, busy_cpu=0.25)
    assert found(host_bound, run).summary.startswith("Python between operators takes")
    assert price_us(host_bound, run).mid_ns == pytest.approx(4_000, rel=0.05)


def test_a_preempted_thread_is_no_finding_and_one_that_waits_at_a_line_is() -> None:
    """Other processes take the core at any line, that of the model too; a sleep or a file has a line of its own."""
    silent(host_bound, sampled("train.py:50", cpu=0.0))
    finding = found(host_bound, sampled("train.py:41", cpu=0.0))
    assert finding.summary.startswith("The main thread waits")
    assert finding.place == "train.py:41"


@pytest.mark.parametrize("device", [True, False])
def test_functions_that_hold_the_step_are_not_named(device: bool) -> None:
    """Recorded stacks have train() and forward() around every gap; they issue the operators."""
    drawn = Timeline() if device else Timeline(device=None)
    for _ in range(6):
        with drawn.step(), drawn.span("train.py(3): train", "python_function"):
            with drawn.span("model.py(9): forward", "python_function"):
                drawn.op("aten::mm", kernel=100 if device else None, host=1_500)
                drawn.python(8_000)
                drawn.op("aten::mm", kernel=100 if device else None, host=1_500)
            with drawn.span("train.py(20): backward", "python_function"):
                drawn.python(100)
                with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op"):
                    drawn.op("aten::mm", kernel=100 if device else None, host=20)
    finding = found(host_bound, run_of(drawn))
    assert finding.place is None


def launching(*, sync: bool = False, changing: bool = False, marker: str | None = None) -> Timeline:
    drawn = Timeline()
    for i in range(6):
        with drawn.step():
            for _ in range(50 + i * changing):
                drawn.op(marker or "aten::mm", kernel=10, host=40)
            if sync:
                drawn.item()
    return training(drawn)


def test_a_graph_is_advised_only_where_the_run_shows_that_one_fits() -> None:
    fits = found(host_bound, run_of(launching()))
    assert fits.fix == 'model = torch.compile(model, mode="reduce-overhead")'
    for drawn, reason in (
        (launching(sync=True), "1 synchronisation per step"),
        (launching(changing=True), "differ between steps"),
    ):
        finding = found(host_bound, run_of(drawn))
        assert finding.fix == "model = torch.compile(model)"
        assert reason in (finding.detail or "")
        assert price_us(host_bound, run_of(drawn)).mid_ns < price_us(host_bound, run_of(launching())).mid_ns


def test_compiling_can_change_rounding() -> None:
    assert found(host_bound, run_of(launching())).risk == "rounding"


def test_a_compiled_run_is_not_told_to_compile() -> None:
    finding = found(host_bound, run_of(launching(changing=True, marker="Torch-Compiled Region: 0/0")))
    assert "torch.compile(" not in finding.fix


def test_recorded_python_frames_name_the_function_that_the_pause_went_by_in() -> None:
    drawn = Timeline()
    for _ in range(6):
        with (
            drawn.step(),
            drawn.span("train.py(3): train", "python_function"),
            drawn.span("tqdm/_monitor.py(60): run", "python_function", tid=999),
        ):
            drawn.op("aten::mm", kernel=100, host=20)
            with drawn.span("train.py(40): augment", "python_function"):
                with drawn.span("train.py(50): quick", "python_function"):
                    drawn.python(300)
                with drawn.span("<built-in method sleep>", "python_function"):
                    drawn.python(8_000)
    finding = found(host_bound, run_of(drawn))
    assert finding.place == "train.py:40"
    assert "augment() at train.py:40" in finding.fix


def test_a_pause_in_many_functions_names_the_one_that_takes_most() -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=400)
            for line, us in ((10, 900), (20, 1_000), (30, 900)):
                with drawn.span(f"train.py({line}): part_{line}", "python_function"):
                    drawn.python(us)
            drawn.op("aten::mm", host=400)
    assert "part_20() at train.py:20" in found(host_bound, run_of(drawn)).fix


def test_steps_in_which_no_operator_was_recorded_are_not_called_python() -> None:
    drawn = Timeline(device=None)
    for _ in range(4):
        with drawn.step():
            drawn.add("user_annotation", "gloo:all_reduce", drawn.now, 2_000, tid=300)
            drawn.python(3_000)
    drawn.op("aten::empty", host=2)
    assert isinstance(host_bound.judge(run_of(drawn)), Skip)
