"""How a report is stored: as JSON of its own, or inside a page that shows it. Schema 1 in both.

A report that was written by another version is read as long as its schema number is the same: unknown keys are ignored.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from mfu_doctor.errors import NotATraceError
from mfu_doctor.json_text import json_bytes
from mfu_doctor.result.job import JOB_SCHEMA, JobReport
from mfu_doctor.result.report import SCHEMA, Report
from mfu_doctor.units import WHOLE, impossible

R = TypeVar("R", bound=Report | JobReport)

_JOB = re.compile(rb'"kind":\s*"job"')
_JOB_BYTES = 256  # it is the third key of a job's report, before anything that was read somewhere
_HEAD = b'"tool": "mfu-doctor"'
_PAGE = re.compile(r'<script type="application/json" id="report">(.*?)</script>', re.DOTALL)
HEAD_BYTES = 4096  # bytes that are enough to see which tool wrote a JSON file


def to_json(report: Report | JobReport) -> bytes:
    """The report as indented UTF-8 JSON."""
    return json_bytes(report, indent=1)


def from_json(data: bytes | str, kind: type[R]) -> R:
    """A report from its JSON.

    Args:
        data: what `to_json` wrote, by this version or another one.
        kind: the class to make.

    Raises:
        NotATraceError: the data is not a report of a known schema.
    """
    try:
        report = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotATraceError(f"not an mfu-doctor report ({error})", "pass a file written by -o report.json") from error
    known = JOB_SCHEMA if issubclass(kind, JobReport) else SCHEMA
    if report.schema != known:
        raise NotATraceError(
            f"the report has schema {report.schema}, this version reads {known}",
            "create the report again from the trace",
        )
    if (name := _impossible(report)) is not None:
        raise NotATraceError(
            f"not a report of mfu-doctor (the value of {name} cannot be)", "create it again from the trace"
        )
    return report


def _impossible(report: Report | JobReport) -> str | None:
    """Name of the first number that cannot be: by its unit, or an MFU above 100 %."""
    stated = report.mfu.value if isinstance(report, Report) else None
    return impossible(report) or ("mfu" if stated is not None and not 0 <= stated <= WHOLE else None)


def is_report(head: bytes) -> bool:
    """Whether a JSON file was written by this tool, by its first `HEAD_BYTES`."""
    return _HEAD in head


def is_of_job(data: bytes) -> bool:
    """Whether a report is that of all ranks of a run."""
    return _JOB.search(data[:_JOB_BYTES]) is not None


def json_in_page(text: str) -> bytes:
    """The JSON inside a page that shows a report.

    Raises:
        NotATraceError: the text is not such a page.
    """
    found = _PAGE.search(text)
    if found is None:
        raise NotATraceError("the page contains no mfu-doctor report", "pass a page written by -o report.html")
    return found.group(1).strip().encode()
