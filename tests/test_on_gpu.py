"""The script for the first minutes on a GPU runs without one, so that it works on the day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("torch")


def rehearsed(out: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """The script's end, and the facts that it wrote."""
    command = [sys.executable, str(ROOT / "benchmarks" / "on_gpu.py"), "--out", str(out), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done, [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_cheap_parts_run_in_a_rehearsal(tmp_path: Path) -> None:
    done, facts = rehearsed(tmp_path, "--rehearse", "--only", "sampler", "peaks")
    assert done.returncode == 0, done.stdout
    assert [(fact["part"], fact["end"]) for fact in facts if fact["fact"] == "end"] == [
        ("sampler", "done"),
        ("peaks", "done"),
    ]
    assert {fact["fact"] for fact in facts if fact["part"] == "peaks"} == {"fp32", "fp64", "end"}
    assert all(fact["flops_per_s"] > 0 for fact in facts if fact["fact"] in ("fp32", "fp64", "under load"))
    assert "## peaks" in (tmp_path / "SUMMARY.md").read_text(encoding="utf-8")


def test_a_part_that_fails_is_told_and_the_next_one_runs(tmp_path: Path) -> None:
    done, facts = rehearsed(tmp_path, "--only", "sampler", "peaks")
    assert done.returncode == 1
    ends = [fact for fact in facts if fact["fact"] == "end"]
    assert [(fact["part"], fact["end"]) for fact in ends] == [("sampler", "failed with 1"), ("peaks", "failed with 1")]
    assert ends[0]["last_words"] == ["torch finds no GPU here: use --rehearse"]
