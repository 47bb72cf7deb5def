"""The report as one page: a single file without network, script or server, from which the report can be loaded again.

It may be printed, attached to an issue or opened a year later. So it contains everything it needs, and its content security
policy makes the browser refuse anything else.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from mfu_doctor import quantities
from mfu_doctor.devices.dtypes import shown_dtype
from mfu_doctor.json_text import json_bytes
from mfu_doctor.quantities import counted
from mfu_doctor.render.html import fixes as page_fixes
from mfu_doctor.render.html import page
from mfu_doctor.render.html.pictures.device import reasons_strip, span_s, sparklines
from mfu_doctor.render.html.pictures.plan import draw_plan
from mfu_doctor.render.html.pictures.roofline import draw_roofline
from mfu_doctor.render.html.pictures.split import draw_split, draw_steps, rows_shown
from mfu_doctor.render.html.pictures.step import draw_drawing, kinds_drawn
from mfu_doctor.render.html.pictures.waterfall import draw_waterfall, nothing_lost, small_ones
from mfu_doctor.render.html.svg import patterns
from mfu_doctor.render.words import caveats as caveat_words
from mfu_doctor.render.words import code_lines, labels, whole_run, wording
from mfu_doctor.render.words import plan as plan_wording
from mfu_doctor.render.words import trial as trial_words
from mfu_doctor.render.words.next_commands import Origin, commands, naming
from mfu_doctor.render.words.text import EN_DASH, clean, each_text
from mfu_doctor.render.words.trial import patch_lines
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.report import Report

TABLE_ROWS = 15  # of the kernel, operator and module tables
# Only these can end a <script> or start a comment in it (HTML, 4.12.1.3). In JSON they occur only in strings.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render_html(report: Report, *, origin: Origin | None = None) -> str:
    """The report as a complete HTML document, smaller than a megabyte for any trace.

    Args:
        report: the result to show.
        origin: where the report comes from, for the next commands.
    """
    name = naming(report, origin)
    data = embedded_json(report)
    scope = scope_of(data)
    shown: Report = each_text(report, lambda text: clean(name(text)))
    context = shared_context(shown, scope) | _page_context(shown, scope) | {"patch": patch_lines(report.trial)}
    context["commands"] = commands(shown, origin)
    return environment().get_template("page.html.j2").render(context, data=Markup(data))  # noqa: S704 - escaped above


def embedded_json(report: Report | JobReport) -> str:
    """The report as JSON, escaped so that no text in it can end the script element."""
    text = json_bytes(report).decode()
    return "".join(_ESCAPES.get(c, c) for c in text) if any(c in text for c in _ESCAPES) else text


def scope_of(data: str) -> str:
    """A prefix for ids that differs between reports, so that several fit into one notebook."""
    return "m" + hashlib.sha256(data.encode()).hexdigest()[:8]


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """The templates. Everything they print is escaped, and an unknown name is an error."""
    loader = jinja2.PackageLoader("mfu_doctor.render.html", "templates")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["words"] = page.short_words
    made.filters["counted"] = counted
    return made


def shared_context(report: Report, scope: str) -> dict[str, Any]:
    """What the first four sections show, on the page and in a notebook.

    Args:
        report: a report whose texts are clean.
        scope: see `scope_of`.
    """
    drawing = report.drawing
    shown_steps = rows_shown(report.steps)
    return {
        "report": report,
        "scope": scope,
        "patterns": patterns(scope),
        "headline": wording.headline(report),
        "footnote": wording.footnote(report),
        "step_time": wording.step_time(report),
        "sentence": report.verdict.sentence if report.verdict is not None else "",
        "first_caveats": caveat_words.first_caveats(report),
        "better": caveat_words.BETTER,
        "change": wording.baseline(report),
        "facts": _facts(report),
        "split_bar": draw_split(report.breakdown, scope) if report.breakdown.step_s else None,
        "split_lines": page.split_lines(report, scope) if report.breakdown.step_s else (),
        "run_rows": whole_run.rows(report, None),
        "run_title": whole_run.caption(report) if report.whole_run is not None else None,
        "waterfall": draw_waterfall(report, scope),
        "nothing_lost": nothing_lost(report),
        "small_ones": small_ones(report),
        "drawing": draw_drawing(drawing, scope) if drawing and drawing.blocks else None,
        "drawing_legend": page.legend(kinds_drawn(drawing), scope) if drawing else (),
        "steps": draw_steps(shown_steps, scope) if len(shown_steps) > 1 else None,
        "steps_hidden": len(report.steps) - len(shown_steps),
        "fixes": page_fixes.fixes(report),
        "replay": labels.replayed(report.failed),
        "plan": None if report.savings_are_shares else draw_plan(report),
        "plan_lines": page_fixes.plan_lines(report),
        "plan_notes": [f"{text[:1].upper()}{text[1:]}." for text in plan_wording.plan_notes(report)],
        "together": plan_wording.in_order(report, EN_DASH),
        "cautions": caveat_words.cautions(report),
        "trial": report.trial,
        "trial_words": trial_words,
    }


def _page_context(report: Report, scope: str) -> dict[str, Any]:
    """What the sections after the fourth show."""
    return {
        "devices": [(s, sparklines(s), reasons_strip(s), span_s(s)) for s in report.samples],
        "roofline": draw_roofline(report, scope),
        "overlap": labels.OVERLAP if wording.kernels_overlap(report) else None,
        "above_roof": any(k.peak_share is not None and k.peak_share > 1 for k in report.kernels),
        "kernels": report.kernels[:TABLE_ROWS],
        "ops": report.ops[:TABLE_ROWS],
        "modules": report.modules[:TABLE_ROWS],
        "code_lines": report.code_lines[:TABLE_ROWS],
        "code_title": code_lines.title(report),
        "code_rate": code_lines.rate,
        "withheld": [(found, plan_wording.why_withheld(report, found)) for found in report.withheld],
        "held_back": plan_wording.held_back(report),
        "unmeasured": wording.unmeasured(report),
        "baseline_rows": page.baseline_rows(report),
        "method": page.method_rows(report),
        "created": page.moment(report.created),
        "peak_link": page.link(report.device.peak_source),
        "quantities": quantities,
        "shown_dtype": shown_dtype,
    }


def _facts(report: Report) -> tuple[tuple[str, str], ...]:
    """The line under the headline: where the numbers come from."""
    device, run = report.device, report.run
    alone = run.rank is not None and (run.world_size or 1) > 1  # the devices of one rank
    several = f"{device.count} \u00d7 " if device.count > 1 and not alone else ""
    rows = (
        ("device", f"{several}{device.name}" if device.name else "unknown"),
        ("trace", run.trace),
        ("rank", f"{run.rank} of {run.world_size}" if alone else ""),
        ("steps", str(run.steps)),
        ("torch", run.versions.get("torch", "")),
        ("recorded", "with mfu-doctor" if run.captured else ""),
        ("report of", page.moment(report.created)),
    )
    return tuple((name, value) for name, value in rows if value)
