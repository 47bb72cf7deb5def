"""A report's metrics and a meter's numbers go into the trackers in one line each, as README shows, and are read back there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfu_doctor.integrations.tensorboard import add_reading, add_report
from mfu_doctor.meter.peak import DevicePeak
from mfu_doctor.meter.reading import Measured, MeterReading
from mfu_doctor.meter.step_work import StepWork
from mfu_doctor.meter.window import Step
from tests.patience import LONGEST_S
from tests.runs import report_of, steady

REPORT = report_of(steady(0.4))
PEAK = DevicePeak(device="a card", dtype="bf16", flops=1e12, source="a datasheet")
READING = MeterReading(7, Measured(steps=(Step(33_270_000, 0, StepWork(flops=1e9, ideal_s=0.003537, peak=PEAK), 8),)))
LOGGED = REPORT.metrics() | READING.scalars


def test_what_is_not_known_is_in_no_log() -> None:
    assert list(READING.scalars) == ["mfu", "tflops", "step_time_s", "samples_per_second"]
    assert MeterReading(0).scalars == {}


def test_report_and_readings_go_to_tensorboard_in_one_line(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        add_report(writer, REPORT, 100)
        add_reading(writer, READING)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    kept = {name: events.Scalars(name)[0] for name in events.Tags()["scalars"]}
    told = {f"mfu_doctor/meter/{name}": value for name, value in READING.scalars.items()}
    assert {name: scalar.value for name, scalar in kept.items()} == pytest.approx(REPORT.metrics() | told)
    assert {kept[name].step for name in told} == {7}
    assert {kept[name].step for name in REPORT.metrics()} == {100}


def test_numbers_go_to_mlflow_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    # since 3.0 a database is the default, which mlflow-skinny lacks
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        mlflow.log_metrics(REPORT.metrics())
        mlflow.log_metrics(READING.scalars, step=READING.step)
    assert mlflow.get_run(run.info.run_id).data.metrics == pytest.approx(LOGGED)


def test_numbers_go_to_wandb_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    for limit in ("WANDB__SERVICE_WAIT", "WANDB_INIT_TIMEOUT"):
        monkeypatch.setenv(limit, f"{LONGEST_S:g}")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    with wandb.init(mode="offline", dir=str(tmp_path)) as run:
        wandb.log(REPORT.metrics())
        wandb.log(READING.scalars)
        kept = dict(run.summary)
    assert {name: kept[name] for name in LOGGED} == pytest.approx(LOGGED)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_bar_of_tqdm_has_the_line_of_a_reading() -> None:
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed")
    with tqdm.tqdm(total=2, disable=False, file=_Nowhere()) as bar:
        bar.set_postfix_str(str(READING), refresh=False)
        assert str(bar).endswith("time 33.27ms, mfu 10.63%]")


class _Nowhere:
    """A terminal that nobody reads."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None: ...
