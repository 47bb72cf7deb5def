"""The report as JSON, schema 1: the one form that scripts read.

It exists as a renderer so that every output is chosen the same way; the bytes are those of `result.stored`.
"""

from __future__ import annotations

from mfu_doctor.result.report import Report
from mfu_doctor.result.stored import to_json


def render_json(report: Report) -> str:
    """The report as indented JSON with a final newline."""
    return to_json(report).decode() + "\n"
