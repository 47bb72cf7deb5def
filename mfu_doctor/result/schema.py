"""The JSON Schemas of a report and of a job's report, generated from the types, so that the documents cannot drift from the code.

python -m mfu_doctor.result.schema        writes report.schema.json and job.schema.json again

It is the same whichever version of msgspec generates it: some versions write the default of an empty mapping and some do not, so
none is kept, and alternatives stand in different orders, so they are sorted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mfu_doctor.result.job import JOB_SCHEMA, JobReport
from mfu_doctor.result.report import SCHEMA, Report

FILE = Path(__file__).with_name("report.schema.json")
JOB_FILE = Path(__file__).with_name("job.schema.json")


def report_schema() -> bytes:
    """The schema (JSON Schema 2020-12) as indented UTF-8 JSON with a final newline."""
    return _schema(Report, f"mfu-doctor report, schema {SCHEMA}")


def job_schema() -> bytes:
    """The schema of a job's report, likewise."""
    return _schema(JobReport, f"mfu-doctor report of a job, schema {JOB_SCHEMA}")


def _schema(kind: type, title: str) -> bytes:
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    schema = head | _as_any_version(msgspec.json.schema(kind))
    return msgspec.json.format(msgspec.json.encode(schema), indent=1) + b"\n"


def _as_any_version(node: Any) -> Any:
    """The same schema without `"default": {}` and with its alternatives sorted, at any depth."""
    if isinstance(node, dict):
        kept = {key: _as_any_version(value) for key, value in node.items() if (key, value) != ("default", {})}
        return kept | {"anyOf": sorted(kept["anyOf"], key=msgspec.json.encode)} if "anyOf" in kept else kept
    return [_as_any_version(item) for item in node] if isinstance(node, list) else node


if __name__ == "__main__":
    FILE.write_bytes(report_schema())
    JOB_FILE.write_bytes(job_schema())
