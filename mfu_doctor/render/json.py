"""The report as JSON, schema 1: the one form that scripts read.

It exists as a renderer so that every output is chosen the same way; the bytes are `Report.to_json`'s.
"""

from __future__ import annotations

from mfu_doctor.result.report import Report


def render_json(report: Report) -> str:
    """The report as indented JSON with a final newline."""
    return report.to_json().decode() + "\n"
