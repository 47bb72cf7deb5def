"""`--help` is whole sentences that fit a terminal, and Tab offers what can be written there."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from mfu_doctor.comparison.compare import COMPARED_KEYS
from mfu_doctor.comparison.measures import MEASURES
from mfu_doctor.comparison.samples import KEYS
from mfu_doctor.render import names
from mfu_doctor.rules.catalogue import RULES
from tests.patience import LONGEST_S
from tests.traces import ROOT

VERBS = ("report", "check", "compare", "run", "explain", "annotate", "selfcheck")
# The program under the name by which a shell knows it.
PROGRAM = "import sys; sys.argv[0] = 'mfu-doctor'; from mfu_doctor.cli.main import main; main()"
COLUMNS = 80
ENTRY = re.compile(r"^  (\S.*?)(?:  +|\n +)(\S(?:.|\n +)*)$", re.MULTILINE)


def call(*words: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": str(COLUMNS)} | environ,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_whole_sentences_at_80_columns(verb: str) -> None:
    text = call(*([verb] if verb else []), "--help")
    assert all(len(line) <= COLUMNS for line in text.splitlines())
    assert "<" not in text  # no type of Python
    assert "..." not in re.sub(r"TRACE\.\.\.|\[ARGS\]\.\.\.", "", text)  # nothing is cut off
    for part in ("Arguments:\n", "Options:\n", "Commands:\n"):
        entries = ENTRY.findall(text.partition(part)[2].partition("\n\n")[0])
        if part in text:
            assert entries
        for name, sentence in entries:
            if "completion" not in name:  # typer's own
                assert sentence.rstrip().endswith("."), f"{name}: {sentence}"
                assert sentence[0].isupper(), f"{name}: {sentence}"


def test_help_lists_what_budgets_and_keys_are_called() -> None:
    check, compare = (" ".join(call(verb, "--help").replace("-\n", "-").split()) for verb in ("check", "compare"))
    named = check.partition("Names: ")[2].partition(".")[0].replace("- ", "-").split(", ")
    assert set(named) == {measure.option for measure in MEASURES}
    for text, keys in ((check, KEYS), (compare, COMPARED_KEYS)):
        listed = text.partition("differ in KEY: ")[2].partition(".")[0]
        assert set(listed.replace("- ", "-").replace(" or ", ", ").split(", ")) == set(keys)


def completed(line: str) -> set[str]:
    words = line.split(" ")
    text = call(_MFU_DOCTOR_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    return set(text.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mfu-doctor explain ", {rule.name for rule in RULES}),
        ("mfu-doctor report x --ignore input-bound,device-", {"input-bound,device-sync"}),
        ("mfu-doctor compare a b --fix unfused-opt", {"unfused-optimizer"}),
        ("mfu-doctor report x --format ", set(names("report"))),
        ("mfu-doctor check x --format ", set(names("verdict"))),
        ("mfu-doctor compare a b --format ", set(names("comparison"))),
        ("mfu-doctor explain --format ", {"text", "markdown", "json"}),
        ("mfu-doctor check x --budget data-l", {"data-loading="}),
        ("mfu-doctor check x --level input-bound=", {"input-bound=off", "input-bound=warn", "input-bound=error"}),
        ("mfu-doctor check x --allow-different ti", {"timing"}),
    ],
)
def test_tab_offers_what_can_be_written_there(line: str, offered: set[str]) -> None:
    assert offered <= completed(line)
