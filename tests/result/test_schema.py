"""The committed JSON Schema describes exactly what reports contain."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from mfu_doctor.api.report import Report
from mfu_doctor.errors import NotATraceError
from mfu_doctor.result.schema import FILE, report_schema
from tests.goldens import FOLDER, GOLDENS

SCHEMA = json.loads(report_schema())


def test_the_committed_schema_is_up_to_date() -> None:
    """A changed type without a new schema would mislead everybody who reads reports by script."""
    assert FILE.read_bytes() == report_schema(), "run: python -m mfu_doctor.result.schema"


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_golden_report_obeys_the_schema(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_bytes()), SCHEMA, cls=jsonschema.Draft202012Validator)


def test_the_schema_refuses_a_report_with_text_for_a_number() -> None:
    """A schema that accepts anything would pass every other test here."""
    data = json.loads((FOLDER / "healthy.json").read_bytes())
    data["mfu"]["value"] = "52 %"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("field", ["value", "hfu", "causal"])
def test_a_report_above_the_peak_is_refused(field: str) -> None:
    """No version states an MFU above 100 %: somebody has changed the file, and would be told that number as a headline."""
    data = json.loads((FOLDER / "healthy.json").read_bytes())
    data["mfu"][field] = 3.5
    with pytest.raises(NotATraceError, match="cannot be"):
        Report.from_json(json.dumps(data))


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_files_are_what_the_builder_makes_and_come_back_unchanged(name: str) -> None:
    """Schema 1 is pinned: the files were written by an earlier version and must be read by this one."""
    assert Report.load(FOLDER / f"{name}.json") == GOLDENS[name]()


def test_unknown_keys_are_ignored() -> None:
    """Additive change within a schema number: an older reader reads a newer report."""
    data = json.loads((FOLDER / "healthy.json").read_bytes())
    data["invented_later"] = {"x": 1}
    data["mfu"]["invented_later"] = 2
    assert Report.from_json(json.dumps(data)) == GOLDENS["healthy"]()
