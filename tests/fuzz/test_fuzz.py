"""A bounded part of the harness with a fixed seed. `python -m tests.fuzz --minutes N` goes on as long as asked."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.command import LONGEST_ERROR, is_sentence
from tests.fuzz.crafted import CRAFTED
from tests.fuzz.judge import difference, faults, faults_of_others, plain_size, told, wrong_report
from tests.fuzz.mutants import mutant
from tests.fuzz.retold import RETELLINGS, shuffled, with_events, written
from tests.fuzz.seeds import drawn, seeds
from tests.fuzz.stored import report_faults, report_text, settings_faults, settings_text
from tests.sample_report import full_report
from tests.traces import real_trace

_DRAWN, _MUTANTS, _OTHERS, _RETOLD, _REPORTS, _SETTINGS = 60, 100, 8, 10, 20, 40
_SEED = 16

# Real traces whose report takes less than a second.
_SMALL = ("a100_alexnet_sync_events", "cpu_gloo_rank34of300", "h100_bert_small_inference", "mi250_minitoy_train",
          "mi300x_inductor_triton", "vllm_decode_graph", "two_ranks/rank0", "v100_dlrm_8ranks/rank3")  # fmt: skip


def expect_no_faults(folder: Path, data: bytes) -> None:
    path = folder / "input.json"
    path.write_bytes(data)
    found = list(faults(path, plain_size(data) / 1e6))
    assert not found, f"{path}: {found}"


def expect_same(folder: Path, data: bytes, again: bytes, how: str) -> None:
    path = folder / "input.json"
    found = difference(told(data, path), told(again, path))
    assert not found, f"{how}: {found}"


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_file_is_reported_or_refused(tmp_path: Path, kind: str) -> None:
    expect_no_faults(tmp_path, CRAFTED[kind]())


def test_drawn_files_are_reported_or_refused_and_in_any_order(tmp_path: Path) -> None:
    rng = random.Random(_SEED)
    for document in drawn(_SEED, _DRAWN):
        expect_no_faults(tmp_path, written(document))
        expect_same(tmp_path, written(document), written(shuffled(document, rng)), "shuffled")


def test_mutants_are_reported_or_refused(tmp_path: Path) -> None:
    rng, known = random.Random(_SEED), [*seeds(), *map(written, drawn(_SEED, _DRAWN))]
    for _ in range(_MUTANTS):
        expect_no_faults(tmp_path, mutant(rng.choice(known), rng))


def test_every_verb_takes_or_refuses_a_mutant(tmp_path: Path) -> None:
    rng, known = random.Random(_SEED), [*seeds(), *map(written, drawn(_SEED, _OTHERS))]
    path, other = tmp_path / "input.json", tmp_path / "sound.json"
    other.write_bytes(known[-1])
    for _ in range(_OTHERS):
        path.write_bytes(mutant(rng.choice(known), rng))
        assert not list(faults_of_others(path, other)), path


@pytest.mark.parametrize("retelling", RETELLINGS)
def test_the_same_events_give_the_same_report(tmp_path: Path, retelling: str) -> None:
    rng = random.Random(_SEED)
    for document in [
        json.loads(seeds()[-1]) | {"baseTimeNanoseconds": 0},
        *drawn(len(retelling), _RETOLD, strange=False),
    ]:
        expect_same(tmp_path, written(document), RETELLINGS[retelling](document, rng), retelling)


@pytest.mark.parametrize("name", _SMALL)
def test_a_real_trace_gives_the_same_report_in_any_order(tmp_path: Path, name: str) -> None:
    data = gzip.decompress(real_trace(f"{name}.pt.trace.json.gz").read_bytes())
    document: Any = json.loads(data)
    if isinstance(document, list):
        document = {"traceEvents": document}
    for events in (shuffled(document, random.Random(_SEED))["traceEvents"], document["traceEvents"][::-1]):
        expect_same(tmp_path, written(document), written(with_events(document, events)), name)


def test_a_changed_saved_report_is_shown_or_refused(tmp_path: Path) -> None:
    rng = random.Random(_SEED)
    for _ in range(_REPORTS):
        data, suffix = report_text(rng)
        path = tmp_path / f"stored{suffix}"
        path.write_bytes(data)
        assert not list(report_faults(path)), path


def test_settings_of_any_content_hold_or_are_refused(tmp_path: Path) -> None:
    rng = random.Random(_SEED)
    for _ in range(_SETTINGS):
        data = settings_text(rng)
        assert not list(settings_faults(data, tmp_path)), data


def test_a_wrong_report_is_seen() -> None:
    """The judge itself can fail."""
    data = json.loads(full_report().to_json())
    data["breakdown"]["compute"] = -data["breakdown"]["step_s"]
    data["steps"][0]["split"]["step_s"] = -1.0
    data["kernels"][0]["share"] = 1.5
    found = " ".join(wrong_report(json.dumps(data)))
    for fault in (
        "the buckets sum to",
        "a bucket is negative",
        "step_s is negative: -1.0",
        "share is 1.5",
    ):
        assert fault in found
    data["mfu"]["value"] = -1.7e7
    assert "it cannot be read back" in " ".join(wrong_report(json.dumps(data)))


def test_a_difference_is_told_by_its_place() -> None:
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == ".a[1].b: 2 is 3"
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}) == ""
    assert difference([1], [1, 2]) == ": [1] is [1, 2]"


@pytest.mark.parametrize("text", ["", "Traceback\n", "error: a\nb\n", "error: " + "a" * LONGEST_ERROR + "\n"])
def test_what_is_no_sentence_is_seen(text: str) -> None:
    assert not is_sentence(text)
