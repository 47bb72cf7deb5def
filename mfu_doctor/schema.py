"""The JSON Schema of a report, generated from its types, so that the document cannot drift from the code.

python -m mfu_doctor.schema        writes mfu_doctor/report.schema.json again
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from mfu_doctor.report import SCHEMA, Report

FILE = Path(__file__).with_name("report.schema.json")


def report_schema() -> bytes:
    """The schema (JSON Schema 2020-12) as indented UTF-8 JSON with a final newline."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"mfu-doctor report, schema {SCHEMA}"}
    return msgspec.json.format(msgspec.json.encode(head | msgspec.json.schema(Report)), indent=1) + b"\n"


if __name__ == "__main__":
    FILE.write_bytes(report_schema())
