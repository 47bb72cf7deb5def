"""The checklist shows every check, fits its place, and shows hostile text as text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from syrupy.assertion import SnapshotAssertion

from mfu_doctor.render import render
from mfu_doctor.render.terminal.paint import Abilities
from mfu_doctor.render.verdict.checklist import MAX_BYTES, render_checklist, render_checklist_markdown
from mfu_doctor.render.words.escape import code, inline
from mfu_doctor.render.words.text import cells
from mfu_doctor.result.findings import Saving
from mfu_doctor.result.verdict import FAILED, WARNING, Check
from tests.verdicts import golden_verdict, hostile_text, many_failures, passing_verdict, verdict_since, with_texts

SGR = re.compile(r"\x1b\[[0-9;]*m")


def test_the_terminal_checklist_names_every_check_that_matters() -> None:
    text = render_checklist(golden_verdict())
    assert max(len(line) for line in text.splitlines()) <= 80
    for name in ("step-time", "mfu", "data-loading", "launches", "syncs", "input-bound", "host-bound", "straggler"):
        assert name in text
    assert "train.py:57" in text  # where the new sync is
    assert "DataLoader(num_workers=12, pin_memory=True)" in text
    assert text.isascii()


def test_the_first_line_is_the_outcome() -> None:
    assert render_checklist(golden_verdict()).startswith("mfu-doctor check failed: step-time, syncs, input-bound")
    assert render_checklist(passing_verdict()).startswith("mfu-doctor check passed")


def test_the_markdown_is_a_table_and_a_checklist() -> None:
    text = render_checklist_markdown(golden_verdict())
    lines = text.splitlines()
    assert (
        lines[0]
        == "### mfu-doctor: failed: step-time, syncs, input-bound (1 inconclusive, 1 warning, 4 passed, 1 not measured)"
    )
    assert "Fix first: the device waits for data" in lines[2]
    assert lines[4] == "|  | check | budget | baseline | this run | change |"
    assert any(
        line.startswith("| ❌ | step time, mean of 15 | at most +5% |") and "**+8.6 %**" in line for line in lines
    )
    assert any(line.startswith("| ⚠️ | MFU |") for line in lines)
    assert any(line.startswith("| ✅ | launches per step |") for line in lines)
    assert any(line.startswith("- [ ] ❌ **input-bound**") and "MFU 38–40 %" in line for line in lines)  # noqa: RUF001
    assert any(line.startswith("- [x] 2 passed: fp32-matmul, gc-pause") for line in lines)
    assert any(line.startswith("- not measured: straggler") for line in lines)
    assert "`DataLoader(num_workers=12, pin_memory=True)`" in text
    assert text.rstrip().endswith("</details>")


def test_without_a_baseline_there_are_no_baseline_columns() -> None:
    assert "|  | check | budget | this run |" in render_checklist_markdown(passing_verdict())


def test_the_markdown_stays_below_64_kb_whatever_is_in_it() -> None:
    huge = with_texts(many_failures(200), lambda: "漢`|<&" * 300)
    assert len(render_checklist_markdown(huge).encode()) <= MAX_BYTES
    many = replace(huge, judged=replace(huge.judged, runs=tuple("r" * 1000 for _ in range(100))))
    assert len(render_checklist_markdown(many).encode()) <= MAX_BYTES


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_hostile_text_never_becomes_markup(data: st.DataObject) -> None:
    verdict = with_texts(golden_verdict(), lambda: data.draw(hostile_text))
    page = render_checklist_markdown(verdict)
    outside = re.sub(r"\\[\s\S]|(`+)(?!`)[\s\S]*?(?<!`)\1(?!`)", "", page)
    assert "<" not in re.sub(r"</?(details|summary)>", "", outside)
    assert outside.count("<details>") == 1
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table} == {7}
    for text in (page, render_checklist(verdict)):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]", text)
        assert not any(line.lstrip().startswith("::") or "##[" in line for line in text.splitlines())
    assert all(cells(line) <= 80 for line in render_checklist(verdict).splitlines())


def test_inline_markdown_shows_exactly_its_text() -> None:
    assert inline("a|b`c*d_e<f>&g") == r"a\|b\`c\*d\_e&lt;f&gt;&amp;g"
    assert "@everyone" not in inline("@everyone")


def test_code_is_fenced_by_more_backticks_than_it_holds() -> None:
    assert code("x = 1") == ["`x = 1`"]
    assert code("a `b` c") == ["``a `b` c``"]
    assert code("`b`") == ["`` `b` ``"]
    assert code("a\n```\nb") == ["````python", "a", "```", "b", "````"]
    assert code("") == []


@pytest.mark.parametrize("reasons", [1, 9])
def test_what_rules_did_not_measure_is_one_line(reasons: int) -> None:
    """Of a run on a CPU it was twenty lines, which hid what was found."""
    golden = golden_verdict()
    unseen = next(check for check in golden.checks if check.name == "straggler")
    more = (replace(unseen, name=f"rank-{i}", summary=f"{unseen.summary}{' ' * (i % reasons)}") for i in range(30))
    many = replace(golden, checks=(*golden.checks, *more))
    for text in (render_checklist(many), render_checklist_markdown(many), str(many)):
        assert len(re.findall(r"^ *-? ?not measured: ", text, flags=re.MULTILINE)) == 1
        assert "and 25 more" in text
        assert ("tells why" in text) == (reasons > 1)


def test_what_is_at_stake_is_not_promised() -> None:
    """`check` said "fixing saves 6.4 ms" of a fix that is another report."""
    saving = Saving(low=0.003, mid=0.0064, high=0.008, mfu_low=0.1, mfu_high=0.2)
    found = Check(name="slow-link", kind="rule", status=WARNING, title="slow-link", summary="slow", saving=saving)
    found = replace(found, sure="modelled", fix="mfu-doctor report DIR  # the traces of all ranks")
    verdict = replace(golden_verdict(), checks=(found, replace(found, status=FAILED, name="failed")))
    told = "per step are at stake; what gets them back is not known yet, modelled"
    for form in ("terminal", "markdown", "github", "junit"):
        text = " ".join(render(verdict, form).replace("\u00a0", " ").split())
        assert told in text, form
        assert "fixing saves" not in text, form
        assert "(MFU" not in text, form


def test_a_budget_that_was_not_measured_keeps_its_reason() -> None:
    golden = golden_verdict()
    unseen = next(check for check in golden.checks if check.name == "straggler")
    budget = replace(unseen, name="mfu", kind="budget", summary="the peak of the device is unknown")
    text = str(replace(golden, checks=(*golden.checks, budget, replace(unseen, name="other", summary="another"))))
    assert "not measured: mfu: the peak of the device is unknown" in text


def test_a_spread_that_rounds_to_nothing_is_not_printed() -> None:
    """A small MFU was once "1.4 % +-0.0"."""
    golden = golden_verdict()
    narrow = tuple(replace(check, spread=1e-6) if check.name == "mfu" else check for check in golden.checks)
    shown = replace(golden, checks=narrow)
    for text in (render_checklist(shown), render_checklist_markdown(shown)):
        rows = [row for row in text.splitlines() if "mfu" in row.lower() and "28.9 %" in row]
        assert rows
        assert not any("0.0" in row for row in rows)


@pytest.mark.parametrize("width", [80, 120])
def test_the_checklist_on_the_screen(width: int, snapshot: SnapshotAssertion) -> None:
    assert render(verdict_since(), "terminal", screen=Abilities(width=width)) == snapshot
    assert render(golden_verdict(), "terminal", screen=Abilities(width=width)) == snapshot


def test_what_is_new_since_the_baseline_stands_before_what_it_has_too() -> None:
    for form in ("terminal", "markdown"):
        text = render(verdict_since(), form)
        places = [
            text.index(w) for w in ("New since the baseline", "GPU waits", "As in the baseline", "9,412 launches")
        ]
        assert places == sorted(places)
        assert "since the baseline" not in render(passing_verdict(), form)
    assert "<system-out>warning: GPU waits for data\nnew since the baseline\n" in render(verdict_since(), "junit")
    assert "9,412 launches a step\nas in the baseline\n" in render(verdict_since(), "junit")


def test_what_the_baseline_did_not_judge_is_not_called_new() -> None:
    text = render(verdict_since("not measured"), "terminal")
    assert text.index("Not compared with the baseline") < text.index("9,412 launches")


def test_a_finding_that_was_too_small_in_the_baseline_is_new() -> None:
    assert "As in the baseline" not in render(verdict_since("withheld"), "terminal")


def test_the_words_are_the_same_with_colour_and_without_and_only_a_failure_is_red() -> None:
    coloured = render(golden_verdict(), "terminal", screen=Abilities(color=True))
    assert SGR.sub("", coloured) == render(golden_verdict(), "terminal")
    red = [row for row in coloured.splitlines() if "31m" in row]
    assert red
    assert all("failed:" in row or "warning, 4 passed" in row or "FAILED" in row for row in red)
    assert "31m" not in render(passing_verdict(), "terminal", screen=Abilities(color=True))


def test_a_wide_terminal_cuts_no_value_of_the_table() -> None:
    golden = golden_verdict()
    long = tuple(replace(check, name=f"{check.name}-of-the-run-in-the-job") for check in golden.checks)
    assert "step-time-of-the-run-in-the-job" in render(
        replace(golden, checks=long), "terminal", screen=Abilities(width=120)
    )
