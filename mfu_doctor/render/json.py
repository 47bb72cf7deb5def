"""Every result as JSON, for scripts.

The result makes the bytes itself. This renderer exists so that all formats are selected in the same way.
"""

from __future__ import annotations

from mfu_doctor.comparison.compare import Comparison
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.report import Report
from mfu_doctor.result.stored import to_json
from mfu_doctor.result.verdict import Verdict


def render_json(shown: Report | JobReport | Verdict | Comparison) -> str:
    """Indented JSON with a final newline. That of a report, and that of a job's report, is schema 1."""
    data = to_json(shown) if isinstance(shown, Report | JobReport) else shown.to_json()
    return data.decode() + "\n"
