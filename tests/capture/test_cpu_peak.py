"""A CPU's peak is measured, plausible, recalled, and leaves no trace in the user's process."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch

from mfu_doctor.capture.facts import cpu_peak, processor
from mfu_doctor.capture.facts.cpu_peak import MEASUREMENTS, measure_peaks
from mfu_doctor.capture.facts.processor import cpu_model


@pytest.fixture(autouse=True)
def small_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_peak, "SHAPES", ((64, 64, 64), (128, 128, 128)))
    monkeypatch.setattr(cpu_peak, "COPY_BYTES", 1 << 20)
    monkeypatch.setattr(cpu_peak, "SHAPE_SECONDS", 0.005)
    monkeypatch.setattr(cpu_peak, "COPY_SECONDS", 0.002)


def test_one_peak_per_known_dtype_in_the_order_asked_for(tmp_path: Path) -> None:
    peaks = measure_peaks(("float64", "float32", "int7", "float32"), cache_dir=tmp_path)
    assert [peak.dtype for peak in peaks] == ["float64", "float32"]
    assert all(peak.threads == torch.get_num_threads() for peak in peaks)
    assert "float64" in peaks[0].how


def test_a_peak_is_in_flops_per_second_and_a_bandwidth_in_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a clock on which everything takes a millisecond: 2 x 128^3 FLOP, and a copy that reads and writes 1 MiB."""
    looks = iter(np.arange(0, 1e6) * 1e-3)
    monkeypatch.setattr(cpu_peak, "time", SimpleNamespace(perf_counter=lambda: float(next(looks))))
    (peak,) = measure_peaks(("float32",), cache_dir=tmp_path)
    assert peak.flops == pytest.approx(2 * 128**3 / 1e-3)
    assert peak.bandwidth_bytes_s == pytest.approx(2 * 2**20 / 1e-3)


def test_the_real_shapes_keep_to_their_budget_of_products(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A clock that charges each look 0.06 s: the budget must end the measurement whatever the machine.
    looks = iter(np.arange(0, 1e6) * 0.06)
    monkeypatch.setattr(cpu_peak, "time", SimpleNamespace(perf_counter=lambda: float(next(looks))))
    measure_peaks(("float32",), cache_dir=tmp_path)
    assert float(next(looks)) < 3.0


def kept(folder: Path, **changes: float) -> None:
    """Change what is kept of the one measurement in the folder."""
    (file,) = folder.iterdir()
    stored = json.loads(file.read_text())
    stored["peak"]["flops"] = changes["flops"]
    stored["measurements"] = changes["measurements"]
    file.write_text(json.dumps(stored))


def test_what_was_measured_often_enough_is_recalled(tmp_path: Path) -> None:
    measure_peaks(("float32",), cache_dir=tmp_path)
    kept(tmp_path, flops=123.0, measurements=MEASUREMENTS)
    assert measure_peaks(("float32",), cache_dir=tmp_path)[0].flops == 123.0


def test_a_first_measurement_on_a_busy_machine_is_not_believed_for_ever(tmp_path: Path) -> None:
    measure_peaks(("float32",), cache_dir=tmp_path)
    kept(tmp_path, flops=123.0, measurements=1)
    assert measure_peaks(("float32",), cache_dir=tmp_path)[0].flops > 123.0
    kept(tmp_path, flops=1e30, measurements=1)
    assert measure_peaks(("float32",), cache_dir=tmp_path, is_busy=lambda: False)[0].flops == 1e30
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["measurements"] == 2


def test_measurements_of_a_busy_hour_do_not_count_and_the_next_quiet_one_is_taken(tmp_path: Path) -> None:
    for _ in range(MEASUREMENTS + 1):
        measure_peaks(("float32",), cache_dir=tmp_path, is_busy=lambda: True)
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["measurements"] == 0
    kept(tmp_path, flops=123.0, measurements=0)
    assert measure_peaks(("float32",), cache_dir=tmp_path, is_busy=lambda: False)[0].flops > 123.0
    assert json.loads(file.read_text())["measurements"] == 1


def test_the_larger_bandwidth_is_kept_beside_the_larger_peak(tmp_path: Path) -> None:
    measure_peaks(("float32",), cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    stored = json.loads(file.read_text())
    stored["peak"] |= {"flops": 1.0, "bandwidth_bytes_s": 9e15}
    file.write_text(json.dumps(stored))
    (peak,) = measure_peaks(("float32",), cache_dir=tmp_path)
    assert peak.flops > 1.0
    assert peak.bandwidth_bytes_s == 9e15


def test_another_thread_count_is_another_peak(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    measure_peaks(("float32",), cache_dir=tmp_path)
    torch.set_num_threads(threads + 1)
    try:
        (peak,) = measure_peaks(("float32",), cache_dir=tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert peak.threads == threads + 1
    assert len(list(tmp_path.iterdir())) == 2


def test_another_processor_of_the_same_name_is_another_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home directory is shared between machines, and "AMD EPYC" with bf16 arithmetic must not answer for one without."""
    for number, flags in enumerate(("avx2 avx512_bf16", "avx2")):
        told = tmp_path / f"cpuinfo{number}"
        told.write_text(f"processor : 0\nmodel name : AMD EPYC\nflags : {flags}\ncpu MHz : {number}\n\nprocessor : 1\n")
        monkeypatch.setattr(processor, "CPUINFO", told)
        measure_peaks(("float32",), cache_dir=tmp_path / "cache")
        assert cpu_model() == "AMD EPYC"
    assert len(list((tmp_path / "cache").iterdir())) == 2
    told.write_text(told.read_text().replace("MHz : 1", "MHz : 2"))  # its clock of the moment is not what it is
    measure_peaks(("float32",), cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}', '{"key": "x", "peak": {"flops": -1}}'])
def test_a_damaged_cache_costs_a_measurement_and_nothing_else(tmp_path: Path, content: str) -> None:
    measure_peaks(("float32",), cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert measure_peaks(("float32",), cache_dir=tmp_path)[0].flops > 0
    assert json.loads(file.read_text())["peak"]["dtype"] == "float32"


def test_a_cache_that_cannot_be_written_is_ignored(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert measure_peaks(("float32",), cache_dir=blocked)[0].flops > 0


def test_the_users_cache_directory_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measure_peaks(("float32",))
    assert len(list((tmp_path / "mfu-doctor").iterdir())) == 1


def test_random_state_and_settings_are_untouched(tmp_path: Path) -> None:
    torch.manual_seed(7)
    numpy_before = str(np.random.get_state())  # noqa: NPY002 - the user's global state
    before = (torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
    measure_peaks(("float32", "bfloat16"), cache_dir=tmp_path)
    after = (torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert numpy_before == str(np.random.get_state())  # noqa: NPY002


def test_autocast_does_not_change_what_is_measured(tmp_path: Path) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.profiler.profile() as profiler:
        measure_peaks(("float32",), cache_dir=tmp_path)
    names = {event.name for event in profiler.events() or ()}
    assert "aten::mm" in names
    assert "aten::to" not in names


def test_the_processor_has_a_name() -> None:
    assert cpu_model()
