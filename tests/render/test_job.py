"""A job on the screen, as markdown and as a page: the answer first, one screen, every text escaped, small at a thousand ranks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mfu_doctor.api.job import JobReport as ShownJob
from mfu_doctor.render import names, render
from mfu_doctor.render.html.pictures.ranks import ALONE, MOST_ROWS, maps_of
from mfu_doctor.render.html.pictures.skew import MOST_SHOWN, draw_rank_steps, draw_skew
from mfu_doctor.render.terminal.paint import Abilities
from mfu_doctor.render.terminal.terminal import SCREEN_LINES
from mfu_doctor.render.words import job as words
from mfu_doctor.render.words.next_commands import Origin
from mfu_doctor.result.job import NO_SKEW, JobReport, RankLeftOut, WhatIf
from mfu_doctor.result.run_verdict import RunVerdict
from tests.browser import open_page, running_browser
from tests.sample_job import job

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m|`*_"


@pytest.mark.parametrize("ranks", [2, 8, 1024])
@pytest.mark.parametrize("width", [80, 120])
def test_one_screen_whose_first_sentence_is_the_answer(ranks: int, width: int) -> None:
    text = render(job(ranks, slow=1), "terminal", screen=Abilities(width=width), origin=Origin("runs/7"))
    lines = text.splitlines()
    assert len(lines) <= SCREEN_LINES
    assert max(map(len, lines)) <= width
    answer = next(i for i, row in enumerate(lines) if row.strip().startswith("All ranks wait 43 ms of a 412 ms step"))
    assert lines[1].startswith("  ! "), "what the reader may not rely on comes first, as on the screen of one run"
    assert answer <= 4
    for part in ("rank 1 (straggler)", "train.py:41", "straggler-rank", "dp allreduce", "1 late"):
        assert part in text


def test_everything_is_listed_with_v() -> None:
    text = render(job(8), "terminal", verbose=True)
    assert sum(f"\n  {rank}" in text for rank in range(8)) == 8
    for part in ("With no skew between ranks", "left out: rank 8", "60 collectives by group", "equal within 4.0 us"):
        assert part in text


def test_without_matched_collectives_the_screen_says_so() -> None:
    bare = replace(
        job(2),
        wait_s=None,
        exposed_wait_s=None,
        blames=(),
        collectives=(),
        matching=replace(job(2).matching, note="no numbers"),
    )
    text = render(bare, "terminal")
    assert "not known: no numbers" in text
    assert "who is late" not in text


@pytest.mark.parametrize("form", names("job"))
def test_an_empty_job_is_rendered(form: str) -> None:
    assert render(JobReport(), form).strip()


def test_jupyter_shows_a_job() -> None:
    report = job(2)
    assert ShownJob.of(report)._repr_markdown_() == render(report, "markdown")


@pytest.mark.parametrize("form", names("job"))
def test_text_from_traces_is_shown_and_obeyed_nowhere(form: str) -> None:
    made = job(4)
    hostile = replace(
        made,
        source=HOSTILE,
        verdict=RunVerdict(sentence=HOSTILE),
        ranks=tuple(replace(row, trace=HOSTILE, host=HOSTILE, finding=HOSTILE, verdict=HOSTILE) for row in made.ranks),
        left_out=(RankLeftOut(reason=HOSTILE, trace=HOSTILE),),
        blames=tuple(replace(blame, sentence=HOSTILE, place=HOSTILE, causes={HOSTILE: 1.0}) for blame in made.blames),
        arrivals=tuple(replace(arrival, group=HOSTILE) for arrival in made.arrivals),
    )
    text = render(hostile, form)
    if form == "html":
        assert "<img" not in text
        assert text.count("</script>") == 1
    if form != "json":
        assert "\x1b" not in text


@pytest.mark.parametrize(("ranks", "rows"), [(8, [8]), (64, [64]), (1024, [129, 5])])
def test_many_ranks_are_grouped_by_host_and_by_dimension(ranks: int, rows: list[int]) -> None:
    """1,024 ranks are 128 hosts of 8 and 4 places along tp, with the late rank in a row of its own; dp has too many places."""
    drawn = maps_of(job(ranks))
    assert [found.rows for found in drawn] == rows
    assert [found.title for found in drawn] == (["Every rank"] if ranks <= ALONE else ["By host", "By tp"])


def test_ranks_that_nothing_groups_are_put_together_as_neighbours() -> None:
    made = job(300)
    bare = replace(made, ranks=tuple(replace(row, host=None, group={}) for row in made.ranks))
    (drawn,) = maps_of(bare)
    assert drawn.title == "3 neighbours a row"
    assert drawn.rows <= MOST_ROWS + 1


def test_a_row_of_a_group_shows_what_most_of_its_ranks_do() -> None:
    made = job(72, slow=0)
    (by_host, *_rest) = maps_of(made)
    assert by_host.drawn.count("k-data_loading") == 10  # the late rank and nine hosts


@pytest.mark.parametrize("ranks", [8, 1024])
def test_the_page_is_small_and_complete(ranks: int) -> None:
    page = render(job(ranks), "html", pages={5: "page.ranks/rank5.html"})
    assert len(page.encode()) < 2_000_000
    assert 'href="page.ranks/rank5.html"' in page
    assert not re.search(r"(src|href)=\"https?:", page)


def test_arrivals_show_the_largest_skew_and_the_last_rank() -> None:
    made = job(8)
    drawn = str(draw_skew(made.arrivals * 3))
    assert drawn.count('class="late"') == MOST_SHOWN
    assert "rank 5, 43" in drawn
    assert draw_skew(()) is None


def test_steps_of_many_ranks_are_a_band_and_the_late_rank() -> None:
    assert str(draw_rank_steps(job(8))).count("polyline") // 2 == 8
    many = str(draw_rank_steps(job(128)))
    assert "polygon" in many
    assert "is-late" in many
    assert draw_rank_steps(replace(job(2), ranks=())) is None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.mark.parametrize("width", [1180, 390])
@pytest.mark.parametrize("ranks", [8, 1024])
def test_the_page_in_a_browser(ranks: int, width: int, browser: Browser, tmp_path: Path) -> None:
    """Nothing is loaded beside it, the browser has nothing to say, and nothing is wider than the window."""
    path = tmp_path / "job.html"
    path.write_text(render(job(ranks), "html"), encoding="utf-8")
    with open_page(browser, path, width=width) as tab:
        assert tab.seen.requests == [path.as_uri()]
        assert not tab.seen.console + tab.seen.errors + tab.seen.dialogs
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.page.locator("svg.ranks").count() == (1 if ranks <= ALONE else 2)


def test_waiting_says_what_of_it_can_be_gained() -> None:
    """Ranks that wait less for each other may wait as much for what comes next."""
    told = replace(job(), wait_s=0.04, what_ifs=(WhatIf(name=NO_SKEW, step_s=0.36, saving_s=0.002),))
    assert words.waiting(told).startswith(
        "40.0 ms of a step (9.7 %), mean of all ranks; the step is 2.0 ms longer for that"
    )
    assert "longer" not in words.waiting(replace(told, what_ifs=()))
    all_of_it = replace(told, what_ifs=(WhatIf(name=NO_SKEW, step_s=0.33, saving_s=0.039),))
    assert "longer" not in words.waiting(all_of_it)


def test_rows_of_waiting_add_up_to_the_waiting() -> None:
    told = replace(job(), wait_s=0.04)
    (blame, *_) = told.blames
    assert words.blame_wait(told, replace(blame, share=0.25)) == "10.0 ms"
