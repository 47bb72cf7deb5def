"""What must hold of every input, whatever it is: a report with sums that add up, or one sentence and exit code 2."""

from __future__ import annotations

import io
import json
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jsonschema

from mfu_doctor.api.report import Report
from mfu_doctor.cli.main import main
from mfu_doctor.reading.gunzip import MAGIC, GzipStream
from mfu_doctor.render import render
from mfu_doctor.result.findings import CRASHED
from mfu_doctor.result.schema import FILE
from mfu_doctor.result.step import BUCKETS

# Processor time and memory that an input may take: so much in any case, and so much for each MB of its plain text. An event that
# is never closed is held until it is too long for one.
SECONDS, SECONDS_PER_MB = 15.0, 3.0
HELD_MB, MB_PER_MB = 400.0, 20.0
LONGEST_ERROR = 1_500  # characters

_SLACK = 1e-6  # relative: seconds are floats


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did."""

    code: object
    out: str
    err: str
    seconds: float
    crash: str = ""


def run(*argv: str) -> Outcome:
    """The command line in this process; a warning is a crash."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code: object = None
    crash = ""
    begun = time.process_time()
    with (
        patch.object(sys, "argv", ["mfu-doctor", *argv]),
        patch.object(sys, "stdout", out),
        patch.object(sys, "stderr", err),
    ):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                main()
        except SystemExit as end:
            code = end.code
        except BaseException:  # noqa: BLE001 - whatever escapes is what is looked for
            crash = traceback.format_exc()[-2_000:]
    took = time.process_time() - begun
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))
    return Outcome(code, texts[0], texts[1], took, crash)


def faults(path: Path, plain_mb: float) -> Iterator[str]:
    """What is wrong with how this file is reported."""
    before_mb = peak_mb()
    done = run("report", str(path), "--format", "json")
    if done.crash:
        yield f"crashed: {done.crash}"
        return
    if done.seconds > SECONDS + SECONDS_PER_MB * plain_mb:
        yield f"took {done.seconds:.1f} s for {plain_mb:.2f} MB"
    if (grown := peak_mb() - before_mb) > HELD_MB + MB_PER_MB * plain_mb:
        yield f"took {grown:.0f} MB for {plain_mb:.2f} MB"
    if done.code in (0, None):
        yield from wrong_report(done.out)
    elif done.code != 2 or not is_sentence(done.err) or done.out:
        yield f"exit code {done.code}: {done.err[:500]!r}"


def is_sentence(text: str) -> bool:
    """Whether this is one line of ours, short enough to be read."""
    return text.startswith("error: ") and text.count("\n") == 1 and len(text) <= LONGEST_ERROR


def wrong_report(text: str) -> Iterator[str]:
    """What is wrong with a report in JSON: schema, sums, signs, round trip, the other outputs."""
    data = json.loads(text)
    yield from (f"schema: {error.message[:200]}" for error in _schema().iter_errors(data))
    report = Report.from_json(text)
    if report.to_json().decode().strip() != text.strip():
        yield "it is another report when it is read back"
    split = report.breakdown
    parts = [float(getattr(split, name)) for name in BUCKETS]
    if abs(sum(parts) - split.step_s) > _SLACK * max(split.step_s, _SLACK):
        yield f"the buckets sum to {sum(parts)}, the step is {split.step_s}"
    if min(parts) < 0:
        yield f"a bucket is negative: {parts}"
    if report.step_time_s is not None and not report.step_time_s.stated > 0:
        yield f"a step takes {report.step_time_s.stated} s"
    if report.mfu.value is not None and not 0 <= report.mfu.value < 1e6:
        yield f"MFU {report.mfu.value}"
    for diagnosis in report.diagnoses:
        if diagnosis.status == CRASHED:
            yield f"the rule {diagnosis.rule} crashed: {diagnosis.reason}"
        saving = diagnosis.saving
        if saving is not None and not 0 <= saving.low <= saving.mid * (1 + _SLACK) <= saving.high * (1 + 2 * _SLACK):
            yield f"the rule {diagnosis.rule} saves {saving.low}, {saving.mid}, {saving.high}"
    for name in ("terminal", "markdown", "html"):
        render(report, name)


def essence(text: str) -> Any:
    """A report without what tells when and from which file it was made."""
    data = json.loads(text)
    data.pop("created")
    data["run"].pop("trace")
    return data


def peak_mb() -> float:
    """Most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@cache
def _schema() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(FILE.read_bytes()))


def plain_size(data: bytes) -> int:
    """Bytes of a file when it is decompressed, as far as it can be."""
    if not data.startswith(MAGIC):
        return len(data)
    stream = GzipStream(data, lambda: b"", size=1 << 20)
    return sum(len(block) for block in iter(stream.read, b""))
