"""`report.metrics()` goes into the experiment trackers in one line each, as README shows; each is read back from its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs import report_of, steady

METRICS = report_of(steady(0.4)).metrics()


def test_metrics_go_to_tensorboard_in_one_line(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        for name, value in METRICS.items():
            writer.add_scalar(name, value)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    kept = {name: events.Scalars(name)[0].value for name in events.Tags()["scalars"]}
    assert kept == pytest.approx(METRICS)


def test_metrics_go_to_mlflow_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv(
        "MLFLOW_ALLOW_FILE_STORE", "true"
    )  # since 3.0 a database is the default, which mlflow-skinny lacks
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        mlflow.log_metrics(METRICS)
    assert mlflow.get_run(run.info.run_id).data.metrics == pytest.approx(METRICS)


def test_metrics_go_to_wandb_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    with wandb.init(mode="offline", dir=str(tmp_path)) as run:
        wandb.log(METRICS)
        kept = dict(run.summary)
    assert {name: kept[name] for name in METRICS} == pytest.approx(METRICS)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
