"""The first four sections of the page as one output of a Jupyter cell: static pictures, no script, styles of its own.

A notebook shows many outputs in one document, so every rule of style stands under one class and every id has a prefix that
differs between reports.
"""

from __future__ import annotations

from mfu_doctor.render.html.html import embedded_json, environment, scope_of, shared_context
from mfu_doctor.render.words.text import clean, each_text
from mfu_doctor.result.report import Report


def render_notebook(report: Report) -> str:
    """The headline, one step drawn, where a step goes, and the fixes, as an HTML fragment."""
    scope = scope_of(embedded_json(report))
    shown: Report = each_text(report, clean)
    return environment().get_template("notebook.html.j2").render(shared_context(shown, scope))
