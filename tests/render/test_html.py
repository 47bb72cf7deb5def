"""The page: complete, inert, readable back, small, and legible to everyone. In a real browser where one is installed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mfu_doctor.api.report import Report
from mfu_doctor.errors import NotATraceError
from mfu_doctor.render import render
from mfu_doctor.render.html.html import render_html
from mfu_doctor.render.html.notebook import render_notebook
from mfu_doctor.render.html.pictures.waterfall import draw_waterfall
from mfu_doctor.render.html.svg import tag
from mfu_doctor.result.caveats import Caveat
from mfu_doctor.result.run import RunInfo
from mfu_doctor.result.step import Block
from mfu_doctor.result.stored import json_in_page
from tests.browser import Tab, open_page, running_browser
from tests.colours import contrast, rgb
from tests.sample_report import drawing, full_report, kernels

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SECTIONS = ("headline", "waterfall", "step", "split", "fixes", "device", "kernels", "judged", "baseline", "method")
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "javascript:alert(4)",
    "<!--<script>",
    "]]><svg onload=alert(5)>",
    "\x1b[31mred\x1b[0m\x07\u202egnp.exe",
    "{{ 7 * 7 }} {% raw %}",
    "kernel<float, &x, 'y'>",
)


def hostile_report() -> Report:
    """The full report with hostile text in every kind of place."""
    report = full_report()
    name = " ".join(HOSTILE)
    blocks = tuple(
        Block(lane=0, start_s=i * 0.04, end_s=i * 0.04 + 0.039, kind="matmul", label=t) for i, t in enumerate(HOSTILE)
    )
    found = replace(report.diagnoses[0], summary=name, fix=name, detail=name, place=name, rule=HOSTILE[0])
    return replace(
        report,
        run=replace(report.run, trace=name, site=name, versions={name: name}, settings={name: name}),
        device=replace(report.device, name=name, peak_source="javascript:alert(6)"),
        drawing=replace(drawing(), lanes=(name, *drawing().lanes[1:]), blocks=blocks),
        diagnoses=(found, *report.diagnoses[1:]),
        kernels=tuple(replace(k, name=name, op=name) for k in kernels()),
        cautions=HOSTILE,
        problems=HOSTILE,
        places={"syncs": (name,)},
        samples=tuple(replace(s, name=name, notes=HOSTILE) for s in report.samples),
        baseline=None if report.baseline is None else replace(report.baseline, trace=name),
    )


def bare_report() -> Report:
    """A report in which nothing is known."""
    return Report(run=RunInfo(trace="empty.json"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("page") / "report.html"
    written.write_text(render_html(full_report()), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def tab(browser: Browser, path: Path) -> Iterator[Tab]:
    with open_page(browser, path) as opened:
        yield opened


# -- in a browser ----------------------------------------------------------------------------------------------------------


def test_page_opens_without_request_or_complaint(tab: Tab) -> None:
    """One file is all that is loaded, and the browser has nothing to say about it: the policy refuses nothing we need."""
    assert len(tab.seen.requests) == 1
    assert tab.seen.console == tab.seen.errors == []


def test_every_section_is_visible_and_named(tab: Tab) -> None:
    for section in SECTIONS:
        assert tab.page.locator(f"section#{section}").is_visible()
    regions = tab.page.get_by_role("region").all()
    assert len(regions) >= len(SECTIONS)


def test_policy_refuses_scripts_and_network(tab: Tab) -> None:
    """A script that got in would not run and could not call home."""
    ran = tab.page.evaluate(
        """() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);
        return fetch('https://example.org/').then(() => 'fetched', () => String(window.ran)); }"""
    )
    assert ran == "undefined"


def test_nothing_is_wider_than_the_window(browser: Browser, path: Path) -> None:
    """On a phone the page scrolls down only; wide pictures scroll inside their own box."""
    with open_page(browser, path, width=390) as narrow:
        assert narrow.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_headings_are_in_order_and_pictures_are_named(tab: Tab) -> None:
    levels = tab.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    bare = "s => !s.getAttribute('aria-hidden') && !(s.querySelector(':scope > title') && s.querySelector(':scope > desc'))"
    assert tab.page.evaluate(f"[...document.querySelectorAll('svg')].filter({bare}).length") == 0
    no_scope = tab.page.evaluate("[...document.querySelectorAll('th')].filter(h => !h.scope).length")
    assert no_scope == 0
    assert tab.page.evaluate("[...document.querySelectorAll('table')].filter(t => !t.caption).length") == 0


def test_every_box_that_scrolls_can_be_reached_by_keyboard(tab: Tab) -> None:
    """The skip link comes first, summaries can be toggled, and focus is visible."""
    page = tab.page
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate(
        "[...document.querySelectorAll('div.scroll')].every(d => d.scrollWidth <= d.clientWidth || d.tabIndex === 0)"
    )
    summary = page.locator("#judged summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('#judged details').open")
    page.keyboard.press("Enter")


def test_paper_shows_what_was_folded(tab: Tab) -> None:
    """Printed details are open: a reader of paper cannot click."""
    tab.page.emulate_media(media="print")
    fix = tab.page.locator("#fixes details").nth(1).locator("p").first
    box = fix.bounding_box()
    tab.page.emulate_media(media="screen")
    assert box is not None
    assert box["height"] > 10


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out(browser: Browser, path: Path, dark: bool) -> None:
    """WCAG 2.2, 1.4.3: 4.5:1 between every text and the ground that it really stands on, in both schemes."""
    with open_page(browser, path, dark=dark) as opened:
        pairs = opened.page.evaluate(
            """() => [...document.querySelectorAll('main *, nav *, footer')].filter(e => !e.closest('svg') &&
              [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
              let g = e; while (g && getComputedStyle(g).backgroundColor === 'rgba(0, 0, 0, 0)') g = g.parentElement;
              const ground = getComputedStyle(g || document.body).backgroundColor;
              return [getComputedStyle(e).color, ground, e.textContent.slice(0, 30)]; })"""
        )
    assert len(pairs) > 100
    for ink, ground, words in pairs:
        assert contrast(rgb(ink), rgb(ground)) >= 4.5, words


def test_hostile_names_do_nothing(browser: Browser, tmp_path: Path) -> None:
    """Whoever wrote the trace cannot run, load, link or restyle anything."""
    path = tmp_path / "hostile.html"
    path.write_text(render_html(hostile_report()), encoding="utf-8")
    with open_page(browser, path) as opened:
        page, seen = opened.page, opened.seen
        assert seen.dialogs == seen.errors == seen.console == []
        assert len(seen.requests) == 1
        assert page.evaluate("document.scripts.length") == 1
        assert page.evaluate("document.images.length") == 0
        handlers = "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length"
        assert page.evaluate(handlers) == 0
        links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        assert all(link.startswith(("#", "https://")) for link in links)
        assert "alert(1)" in page.inner_text("#kernels")


# -- without a browser -----------------------------------------------------------------------------------------------------


def test_report_comes_back_out_of_its_page() -> None:
    report = full_report()
    assert Report.from_json(json_in_page(render_html(report))) == report


def test_hostile_report_comes_back_unchanged() -> None:
    report = hostile_report()
    page = render_html(report)
    assert Report.from_json(json_in_page(page)) == report
    assert page.count("</script>") == 1


def test_other_pages_are_refused_with_a_remedy() -> None:
    with pytest.raises(NotATraceError, match=r"report\.html"):
        json_in_page("<html><body>hello</body></html>")


def test_an_empty_report_still_has_every_section() -> None:
    """Nothing known: every section says so instead of failing or leaving a hole."""
    page = render_html(bare_report())
    assert all(f'id="{section}"' in page for section in SECTIONS)
    assert "None" not in re.sub(r"<script.*", "", page, flags=re.DOTALL)


def test_escapes_do_not_reach_the_reader() -> None:
    """Control and bidirectional characters of a name are gone from what is shown."""
    shown = render_html(hostile_report()).partition('<script type="application/json"')[0]
    assert not set("\x1b\x07\u202e") & set(shown)


def test_page_needs_no_address() -> None:
    """No attribute loads anything: the only addresses are links that a reader may follow."""
    page = render_html(full_report()).partition('<script type="application/json"')[0]
    assert re.findall(r"\b(?:src|srcset|action|poster|data-src)=", page) == []
    assert re.findall(r"@import|url\((?!#)", page) == []
    assert "default-src 'none'" in page


def test_size_is_small_for_a_rich_report() -> None:
    assert len(render_html(full_report()).encode()) < 200_000


def test_size_stays_under_a_megabyte_for_the_largest_drawing() -> None:
    """Even at the bound of the drawing, with the longest kept labels."""
    kinds = ("matmul", "elementwise", "communication")
    blocks = tuple(
        Block(
            lane=i % 3,
            start_s=i * 1e-4,
            end_s=i * 1e-4 + 9e-5,
            kind=kinds[i % 3],
            label="k" * 48,
            count=70,
            busy_s=8e-5,
        )
        for i in range(1500)
    )
    report = replace(full_report(), drawing=replace(drawing(), step_s=0.15, blocks=blocks))
    assert len(render_html(report).encode()) < 700_000


def test_every_diagnosis_is_on_the_page() -> None:
    report = full_report()
    page = render_html(report).partition('<script type="application/json"')[0].replace("\u00a0", " ")
    missing = [d.rule for d in report.diagnoses if d.rule not in page and not d.caution]
    assert missing == []
    assert all(d.summary in page for d in report.diagnoses if d.caution)


def test_notebook_has_its_own_styles_and_no_script() -> None:
    """Two outputs in one notebook do not touch each other or the notebook around them."""
    first, second = render_notebook(full_report()), render_notebook(replace(full_report(), created="another"))
    assert "<script" not in first
    assert "<html" not in first
    style = first[first.index("<style>") + 7 : first.index("</style>")]
    selectors = [s.strip() for rule in re.findall(r"([^{}]+)\{[^{}]*\}", style) for s in rule.split(",")]
    outside = [s for s in selectors if ".mfu-doctor" not in s and not s.startswith('"')]
    assert [s for s in outside if not re.match(r"^[\w\"' -]+$", s)] == []
    ids = re.compile(r' id="([^"]+)"')
    assert set(ids.findall(first)).isdisjoint(ids.findall(second))
    assert render(full_report(), "notebook") == first == full_report()._repr_html_()


def test_json_in_the_page_is_plain_json() -> None:
    """People's scripts read it with the standard library."""
    data = json.loads(json_in_page(render_html(full_report())))
    assert data["schema"] == 1
    assert data["mfu"]["value"] == 0.314


def test_what_to_do_about_a_caveat_has_the_word_of_the_terminal() -> None:
    caveat = Caveat(
        kind="few-steps", text="Only 1 analysed step.", spoils="advice", remedy="mfu-doctor run --steps 5 train.py"
    )
    page = render_html(replace(full_report(), caveats=(caveat,)))
    assert "Only 1 analysed step. For better figures: <code>mfu-doctor run --steps 5 train.py</code>" in page.replace(
        "\u00a0", " "
    )


def test_svg_attributes_and_texts_are_escaped() -> None:
    drawn = str(tag("text", '<b>&"', class_='"><script>', x=1.50001))
    assert drawn == '<text class="&#34;&gt;&lt;script&gt;" x="1.5">&lt;b&gt;&amp;&#34;</text>'


def test_a_passed_rule_is_named_without_the_problem_that_it_looks_for() -> None:
    """The list of passed rules once read as a list of faults."""
    report = full_report()
    title = "copies of batches are not hidden"
    found = replace(report.passed[0], summary=title)
    page = render(replace(report, diagnoses=(found,)), "html").partition("<script")[0]
    assert found.rule in page
    assert title not in page


def test_withheld_advice_says_after_which_fix_it_pays() -> None:
    report = full_report()
    held = report.withheld[0]
    steps = (*report.plan.steps, replace(report.plan.steps[0], rule=held.rule, pays_after="input-bound"))
    page = render(replace(report, plan=replace(report.plan, steps=steps)), "html")
    assert "removing it saves 0.3\u00a0ms; saves time after input-bound" in page


def test_the_ideal_time_is_called_mfu_only_if_it_reads_like_it() -> None:
    """ "Ideal time (= MFU) 6.0 %" stood under an MFU of 7.8 %, which is of the step without the profiler."""
    report = full_report()
    (achieved,) = [bar for bar in report.waterfall if bar.group == "achieved"]
    share = achieved.seconds / report.breakdown.step_s
    same = replace(report, mfu=replace(report.mfu, value=share))
    assert "ideal time (= MFU)" in str(draw_waterfall(same, ""))
    told = str(draw_waterfall(replace(report, mfu=replace(report.mfu, value=1.3 * share)), ""))
    assert "= MFU" not in told
    assert "ideal time of the profiled step" in told
