"""A bounded part of the harness with a fixed seed. `python -m tests.fuzz --minutes N` goes on as long as asked."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import drawn
from tests.fuzz.crafted import CRAFTED
from tests.fuzz.judge import LONGEST_ERROR, essence, faults, is_sentence, plain_size, run, wrong_report
from tests.fuzz.seeds import seeds
from tests.fuzz.strategies import STRANGE, mutated, shifted, traces, written
from tests.sample_report import full_report

_DRAWN, _MUTANTS, _REPORTS = 60, 60, 40


def expect_no_faults(folder: Path, data: bytes) -> None:
    path = folder / "input.json"
    path.write_bytes(data)
    found = list(faults(path, plain_size(data) / 1e6))
    assert not found, f"{path}: {found}"


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_file_is_reported_or_refused(tmp_path: Path, kind: str) -> None:
    expect_no_faults(tmp_path, CRAFTED[kind]())


def test_drawn_files_and_their_mutants_are_reported_or_refused(tmp_path: Path) -> None:
    rng = random.Random(16)
    for data in drawn(16, _DRAWN):
        expect_no_faults(tmp_path, data)
        expect_no_faults(tmp_path, mutated(data, rng))


def test_mutants_of_sound_files_are_reported_or_refused(tmp_path: Path) -> None:
    rng, known = random.Random(16), seeds()
    for _ in range(_MUTANTS):
        expect_no_faults(tmp_path, mutated(rng.choice(known), rng))


@settings(max_examples=15, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(document=traces(strange=False))
def test_the_same_events_give_the_same_report(tmp_path: Path, document: dict[str, Any]) -> None:
    def told(data: bytes) -> Any:
        path = tmp_path / "input.json"
        path.write_bytes(data)
        done = run("report", str(path), "--format", "json")
        return essence(done.out) if done.code in (0, None) else (done.code, done.err)

    expected = told(written(document))
    assert told(written(document)) == expected
    assert told(gzip.compress(written(document))) == expected
    assert told(written(shifted(document, 1_000_000))) == expected


def places_of_numbers(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a JSON document a number or a text stands."""
    if isinstance(node, dict):
        return [place for key, part in node.items() for place in places_of_numbers(part, (*path, key))]
    if isinstance(node, list):
        return [place for i, part in enumerate(node) for place in places_of_numbers(part, (*path, i))]
    return [path]


@settings(max_examples=_REPORTS, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(choice=st.randoms(use_true_random=False), value=STRANGE | st.sampled_from([1e308, -1e308, 10**400, -1.0, 0.0]))
def test_a_saved_report_with_a_strange_value_is_shown_or_refused(
    tmp_path: Path, choice: random.Random, value: Any
) -> None:
    data = json.loads(full_report().to_json())
    *way, last = choice.choice(places_of_numbers(data))
    node = data
    for step in way:
        node = node[step]
    node[last] = value
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
    for command in (("report", str(path)), ("report", str(path), "--format", "html"), ("check", str(path)),
                    ("compare", str(path), str(path))):  # fmt: skip
        done = run(*command)
        assert not done.crash, (command, way, last, value, done.crash)
        assert done.code in (0, 1, None) or is_sentence(done.err), (command, way, last, value, done.err)


def test_a_wrong_report_is_seen() -> None:
    """The judge itself can fail."""
    data = json.loads(full_report().to_json())
    data["breakdown"]["compute"] = -data["breakdown"]["step_s"]
    data["mfu"]["value"] = -1.7e7
    told = " ".join(wrong_report(json.dumps(data)))
    assert "the buckets sum to" in told
    assert "a bucket is negative" in told
    assert "MFU -17000000.0" in told


@pytest.mark.parametrize("text", ["", "Traceback\n", "error: a\nb\n", "error: " + "a" * LONGEST_ERROR + "\n"])
def test_what_is_no_sentence_is_seen(text: str) -> None:
    assert not is_sentence(text)
