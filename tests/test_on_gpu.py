"""The script for the first minutes on a GPU runs without one, so that it works on the day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.rules.catalogue import find
from tests.capture.nvml_standin.build import build, needs_compiler
from tests.patience import LONGEST_S, until
from tests.traces import ROOT

BENCHMARKS = ROOT / "benchmarks"
pytest.importorskip("torch")

Facts = list[dict[str, Any]]


def rehearsed(out: Path, *arguments: str, **environ: str) -> tuple[subprocess.CompletedProcess[str], Facts]:
    """The script's end, and the facts that it wrote; it is not installed, and finds us beside it."""
    command = [sys.executable, str(BENCHMARKS / "on_gpu.py"), "--out", str(out), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environ
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=out.parent, timeout=LONGEST_S)
    return done, [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_rehearsal_leaves_facts_of_each_part_and_pages_to_commit(tmp_path: Path) -> None:
    """All parts but the sampler, which has tests of its own, and one patient."""
    out, parts = tmp_path / "out", ("nanogpt", "clinic", "peaks", "fixtures")
    done, facts = rehearsed(out, "--rehearse", "--only", *parts, "--patients", "slow-loader")
    ends = {fact["part"]: fact["end"] for fact in facts if fact["fact"] == "end"}
    assert ends == dict.fromkeys(parts, "done"), facts
    assert done.returncode == 0, done.stdout + done.stderr
    known = {(fact["part"], fact["fact"]): fact for fact in facts}
    assert known["peaks", "fp32"]["flops_per_s"] > 0
    for fault in ("none", "slow-loader"):
        counted = known["nanogpt", f"{fault}, MFU"]
        assert counted["flops"] == pytest.approx(counted["flops_by_hand"], rel=0.02)
    assert known["nanogpt", "none, overhead"]["ratio"] > 0
    assert known["nanogpt", "meter"]["last_line"]
    planted = known["clinic", "slow-loader"]
    assert planted["expects"] in [found["rule"] for found in planted["faulty"]["findings"]]
    assert all(planted[side]["step_s"] > 0 and planted[side]["report_step_s"] > 0 for side in ("faulty", "mended"))
    with zipfile.ZipFile(out / "fixtures.zip") as fixtures:
        names = set(fixtures.namelist())
        proves = fixtures.read("PROVES.md").decode()
    assert {"slow-loader-faulty.pt.trace.json.gz", "nanogpt-none-0.pt.trace.json.gz"} <= names
    assert "`slow-loader-faulty.pt.trace.json.gz`: " in proves
    assert "| slow-loader | input-bound | " in (out / "BOARD.md").read_text(encoding="utf-8")
    assert "## nanogpt" in (out / "SUMMARY.md").read_text(encoding="utf-8")
    assert len(list(out.iterdir())) <= 8


class TestSamplerWithADriver:
    """Its part on a stand-in for the driver's library."""

    pytestmark = needs_compiler

    def test_every_probe_answers_and_has_a_price(self, tmp_path: Path) -> None:
        library = build(tmp_path)
        done, facts = rehearsed(
            tmp_path / "out", "--rehearse", "--only", "sampler", LD_LIBRARY_PATH=str(library), NVML_STANDIN="mig=1"
        )
        assert done.returncode == 0, done.stdout
        known = {fact["fact"]: fact for fact in facts}
        assert known["under load"]["status"] == "stopped"
        assert known["read under load"]["medians"]["sm_mhz"] == 1755
        assert known["cost"]["probes"]["SM clock"] == "answers"
        assert known["cost"]["probe_s"]["SM clock"] > 0
        assert known["cost"]["mig_mode"] == [1, 1]


def test_a_part_that_fails_is_told_and_the_next_one_runs(tmp_path: Path) -> None:
    done, facts = rehearsed(tmp_path / "out", "--only", "peaks", "fixtures", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    ends = [(fact["part"], fact["end"]) for fact in facts if fact["fact"] == "end"]
    assert ends == [("peaks", "ended with 1: torch finds no GPU here: use --rehearse"), ("fixtures", "done")]


def test_a_part_whose_time_is_over_ends_with_all_that_it_started(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done, facts = rehearsed(out, "--rehearse", "--minutes", "0.02", "--only", "clinic", "--patients", "slow-loader")
    assert done.returncode in (0, 1)
    assert [fact for fact in facts if fact["fact"] == "end"]
    assert "slow-loader" in (out / "BOARD.md").read_text(encoding="utf-8") or done.returncode

    def listed() -> str:
        return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout

    assert until(lambda: str(out) not in listed())


TRAINS = """
import torch
torch.set_num_threads(1)
from itertools import islice
from on_gpu_parts.patients import ORDER, PATIENTS
from harness import precision
assert len(ORDER) == len(set(ORDER)) == 19
for patient in PATIENTS.values():
    for fixed in (False, True):
        batches, step = patient.build(fixed)
        for batch in islice(batches, 2):
            with precision(patient):
                step(batch)
    print(patient.name, patient.expects)
"""


def test_every_patient_trains_on_both_sides(tmp_path: Path) -> None:
    places = (ROOT, BENCHMARKS, ROOT / "examples" / "clinic")
    environ = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(map(str, places))}
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expects = Counter(line.split()[1] for line in done.stdout.splitlines())
    assert expects.pop("None") == 4
    assert len(expects) == 15
    assert [find(rule).name for rule in expects] == list(expects)
