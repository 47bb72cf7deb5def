"""The first sections of the page as the output of a Jupyter cell: static pictures, its own styles and no script.

A notebook has many outputs in one document. So all styles are limited to one class, and all ids have a prefix that differs
between reports.
"""

from __future__ import annotations

from mfu_doctor.render.html.html import embedded_json, environment, scope_of, shared_context
from mfu_doctor.render.words.text import clean, each_text
from mfu_doctor.render.words.trial import patch_lines
from mfu_doctor.result.report import Report


def render_notebook(report: Report) -> str:
    """The headline, the drawing of one step, the step time breakdown and the fixes, as an HTML fragment."""
    scope = scope_of(embedded_json(report))
    shown: Report = each_text(report, clean)
    return (
        environment()
        .get_template("notebook.html.j2")
        .render(shared_context(shown, scope) | {"patch": patch_lines(report.trial)})
    )
