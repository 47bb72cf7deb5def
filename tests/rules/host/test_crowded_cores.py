"""crowded-cores: fires where the program's own processes or threads have the cores that training waits for; never for others."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import FrameSample, HostFacts, LoaderFacts
from mfu_doctor.facts.core_turns import CoreTurns
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.crowded_cores import crowded_cores
from mfu_doctor.rules.trace.busy_machine import busy_machine
from tests.rules.judging import caution, close, found, price_us, run_of, silent
from tests.timeline import Timeline

WORKER = LoaderFacts(class_name="MultiProcessingDataLoader", num_workers=1, fetches=6, sample_place="data.py:63")
TWO_CORES = HostFacts(cores=2, affinity=2, torch_threads=2, cpu_share=1.3, worker_cpu_share=0.0, other_cpu_share=0.0)


def run_with(turns: CoreTurns | None, *, host: HostFacts = TWO_CORES, step: int = 100_000, **facts: Any) -> Run:
    """Six steps of operators on the CPU, no two of them with the same: what they take in quick ones is not known."""
    drawn = Timeline(device=None)
    for number in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=step - number)
            for _ in range(number):
                drawn.op("aten::relu", host=1)
    return run_of(drawn, host=replace(host, turns=turns), **facts)


def loads(cores: float) -> HostFacts:
    return replace(TWO_CORES, worker_cpu_share=cores, loader_cpu_share=cores)


# Measured: step, fetch, what training and its pool waited (ms), cores of the worker, and the step without the worker's work.
MEASURED = [
    pytest.param(67.4, 4.9, 21.7, 0.30, 58.0, id="convolutions, a third of a core"),
    pytest.param(99.4, 21.7, 45.1, 0.44, 58.0, id="convolutions, half a core"),
    pytest.param(38.8, 9.6, 12.0, 0.24, 24.9, id="an MLP, a quarter of a core"),
    pytest.param(46.2, 8.4, 19.4, 0.41, 29.1, id="an MLP, half a core"),
    pytest.param(35.8, 8.1, 10.5, 0.22, 23.9, id="a transformer, a quarter of a core"),
    pytest.param(46.6, 18.2, 8.4, 0.37, 23.5, id="a transformer, a third of a core"),
]


@pytest.mark.parametrize(("step", "training", "pool", "cores", "alone"), MEASURED)
def test_the_step_without_the_workers_load_is_predicted(
    step: float, training: float, pool: float, cores: float, alone: float
) -> None:
    """With what the kernel counted; waits for batches that came with the load are in `alone`."""
    turns = CoreTurns(training_ran=0.6, training_waited=training / step, pool_threads=1, pool_waited=pool / step)
    run = run_with(turns, host=loads(cores), step=round(step * 1_000), loaders=(WORKER,))
    price = price_us(crowded_cores, run)
    gone = run.core_waits
    assert not isinstance(gone, str)
    assert price.high_ns == close(gone.delay[2] * step * 1_000)
    assert step - gone.delay[1] * step == pytest.approx(alone, rel=0.15)


WAITING = CoreTurns(training_ran=0.6, training_waited=0.2, pool_threads=1, pool_ran=0.5, pool_waited=0.2)


def test_the_workers_of_the_loader_are_to_do_less_and_it_is_said_where() -> None:
    finding = found(crowded_cores, run_with(WAITING, host=loads(0.69), loaders=(WORKER,)))
    assert "the loader's workers use 0.69 of 2 cores" in finding.summary
    assert "decode once and keep it" in finding.fix
    assert finding.place == "data.py:63"
    assert finding.confidence == "hint"  # how much cheaper loading gets is not known, as in input-bound


def test_waits_for_a_batch_go_with_the_workers_load() -> None:
    """Steps of 60 ms after a wait of 40 ms: workers with a quarter of their work left are never waited for."""
    drawn = Timeline(device=None)
    for number in range(6):
        with drawn.step():
            drawn.fetch(40_000)
            drawn.op("aten::mm", host=60_000 - number)
            for _ in range(number):
                drawn.op("aten::relu", host=1)
    run = run_of(drawn, host=replace(loads(0.69), turns=WAITING), loaders=(WORKER,))
    price, crowded = price_us(crowded_cores, run), run.core_waits
    assert not isinstance(crowded, str)
    least, likely, most = crowded.because_of("loader")
    assert price.low_ns == pytest.approx(25_000, rel=0.01)  # they deliver every 75 ms
    assert price.mid_ns == pytest.approx(40_000 + 0.75 * likely * 100_000, rel=0.01)
    assert price.high_ns == pytest.approx(40_000 + most * 100_000, rel=0.01)
    assert least < likely < most


def test_the_line_of_the_workers_is_named_with_what_it_calls() -> None:
    at = ("data.py:60", "numpy.convolve"), ("data.py:60", "numpy.convolve"), ("data.py:70", None)
    seen = tuple(FrameSample(time_ns=n, place=at[n % 3][0], call=at[n % 3][1]) for n in range(30))
    finding = found(crowded_cores, run_with(WAITING, host=loads(0.69), loaders=(WORKER,), worker_frames=seen))
    assert finding.place == "data.py:60"
    assert finding.fix.startswith("# data.py:60 numpy.convolve(): make it cheaper, or do it once and keep it")
    assert finding.detail is not None
    assert "data.py:60 numpy.convolve() takes 67 % of loading" in finding.detail


def test_workers_that_read_files_anew_are_to_read_them_once() -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.fetch(300)
            drawn.op("aten::mm", host=99_700)
    host = replace(loads(0.69), turns=WAITING, loading_read_bytes_s=10 * 256e3 / 0.1)
    finding = found(crowded_cores, run_of(drawn, host=host, loaders=(WORKER,), batch_elements=32_000))
    assert "read each file once and keep it" in finding.fix
    assert "2.44 MiB are read for a batch that has 250 KiB at most" in finding.summary


def test_processes_of_others_are_no_fault_of_the_program_and_a_caution_says_what_they_cost() -> None:
    run = run_with(WAITING, host=replace(TWO_CORES, other_cpu_share=0.8))
    silent(crowded_cores, run)
    assert "Other processes used 0.80 of the 2 cores" in caution(busy_machine, run)
    assert "the training thread waited for a core 20 % of the time" in caution(busy_machine, run)


def test_others_that_take_what_nobody_wants_cost_nothing() -> None:
    """Nice processes use all that is left: the cores are all busy, and training waits for none."""
    free = CoreTurns(training_ran=0.99, training_waited=0.004)
    run = run_with(free, host=replace(TWO_CORES, cpu_share=1.0, other_cpu_share=1.0))
    silent(busy_machine, run)
    silent(crowded_cores, run)


def test_the_delay_is_divided_by_what_each_used_of_the_cores() -> None:
    """The worker had a fifth of what was taken, and of the delay, 0.2 + 0.45 * 0.2 of the step; 75 % of its work can go."""
    host = replace(loads(0.2), other_cpu_share=0.8)
    price = price_us(crowded_cores, run_with(WAITING, host=host, loaders=(WORKER,)))
    assert price.mid_ns == close(0.75 * 0.29 / 5 * 100_000)
    assert price.high_ns == close(1.25 * 0.4 / 5 * 100_000)


def test_processes_that_the_program_started_are_told_from_its_loader() -> None:
    host = replace(TWO_CORES, worker_cpu_share=0.9, loader_cpu_share=0.1)
    finding = found(crowded_cores, run_with(WAITING, host=host, loaders=(WORKER,)))
    assert "processes that the program started use 0.80 of 2 cores" in finding.summary
    assert "num_threads" not in finding.fix
    assert finding.place is None
    without_a_loader = found(crowded_cores, run_with(WAITING, host=replace(TWO_CORES, worker_cpu_share=0.9)))
    assert "processes that the program started use 0.90 of 2 cores" in without_a_loader.summary


def test_more_threads_than_cores_are_priced_by_the_cores_that_stay_idle() -> None:
    """Measured, an MLP with four threads on two cores: 47.2 ms, of which its threads ran 41.1; with two threads 23.1 ms."""
    turns = CoreTurns(
        training_ran=16.9 / 47.2,
        training_waited=14.4 / 47.2,
        pool_threads=3,
        pool_ran=24.2 / 47.2,
        pool_waited=38.5 / 47.2,
    )
    run = run_with(turns, host=replace(TWO_CORES, torch_threads=4), step=47_200)
    finding = found(crowded_cores, run)
    assert "4 threads share 2 cores" in finding.summary
    assert finding.fix == "torch.set_num_threads(2)"
    assert 47.2 - price_us(crowded_cores, run).mid_ns / 1_000 == pytest.approx(23.1, rel=0.1)


def test_threads_of_all_ranks_share_the_cores() -> None:
    host = replace(TWO_CORES, cores=8, affinity=8, torch_threads=8, other_cpu_share=0.0)
    finding = found(crowded_cores, run_with(replace(WAITING, pool_ran=2.0), host=host, world_size=2))
    assert "8 threads in each of 2 ranks share 8 cores" in finding.summary
    assert finding.fix == "torch.set_num_threads(4)"


def test_cores_that_are_all_at_work_gain_nothing_from_fewer_threads() -> None:
    busy = CoreTurns(training_ran=0.5, training_waited=0.5, pool_threads=3, pool_ran=1.5, pool_waited=1.5)
    silent(crowded_cores, run_with(busy, host=replace(TWO_CORES, torch_threads=4)))


@pytest.mark.parametrize(
    ("turns", "host", "reason"),
    [
        (None, TWO_CORES, "Linux counts it"),
        (WAITING, HostFacts(), "who used the cores was not recorded"),
        (WAITING, replace(TWO_CORES, shares_s=0.02), "too short"),
    ],
)
def test_what_the_system_did_not_tell_is_not_judged(turns: CoreTurns | None, host: HostFacts, reason: str) -> None:
    outcome = crowded_cores.judge(run_with(turns, host=host))
    assert isinstance(outcome, Skip)
    assert reason in outcome.reason


def test_beside_a_gpu_only_a_host_that_the_device_waits_for_matters() -> None:
    """The host issues for 200 of 1,000 us; half of its time it waits for a core. Where kernels are longer nothing is saved."""
    turns = CoreTurns(training_ran=0.2, training_waited=0.1)
    for kernel, host_us, saved in ((1_000, 200, 0), (50, 1_000, 0.75 * 0.1 * 1_000)):
        drawn = Timeline()
        for _ in range(6):
            with drawn.step():
                drawn.op("aten::mm", host=host_us, kernel=kernel)
        run = run_of(drawn, host=replace(loads(0.5), turns=turns), loaders=(WORKER,))
        assert price_us(crowded_cores, run).mid_ns == close(saved)


def test_a_thread_of_the_program_that_takes_cores_is_named_and_others_are_not_blamed() -> None:
    """A thread that writes logs had 0.20 cores, other processes 0.05: all waiting, half of the step, was laid to those."""
    turns = replace(WAITING, python_ran=0.2, python_busiest="_AsyncWriterThread")
    run = run_with(turns, host=replace(TWO_CORES, other_cpu_share=0.05))
    finding = found(crowded_cores, run)
    assert "a thread that the program started (_AsyncWriterThread) uses 0.20 of 2 cores" in finding.summary
    assert price_us(crowded_cores, run).high_ns == close(1.25 * 0.4 * 0.8 * 100_000)
    waits = run.core_waits
    assert not isinstance(waits, str)
    assert waits.because_of("others")[1] == pytest.approx(0.29 * 0.2)
