"""Every result as JSON: the one form that scripts read.

It exists as a renderer so that every output is chosen the same way; the bytes are those that the result itself makes.
"""

from __future__ import annotations

from mfu_doctor.comparison.compare import Comparison
from mfu_doctor.result.report import Report
from mfu_doctor.result.stored import to_json
from mfu_doctor.result.verdict import Verdict


def render_json(shown: Report | Verdict | Comparison) -> str:
    """Indented JSON with a final newline; a report's is schema 1."""
    data = to_json(shown) if isinstance(shown, Report) else shown.to_json()
    return data.decode() + "\n"
