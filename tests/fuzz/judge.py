"""What must hold of every input, whatever it is: a report with sums that add up, or one sentence and exit code 2."""

from __future__ import annotations

import io
import json
import math
import resource
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from mfu_doctor.api.report import Report
from mfu_doctor.errors import NotATraceError
from mfu_doctor.reading import read_trace
from mfu_doctor.reading.gunzip import MAGIC, GzipStream
from mfu_doctor.render import render
from mfu_doctor.result.findings import CRASHED
from mfu_doctor.result.schema import FILE
from mfu_doctor.result.step import BUCKETS
from tests.both_ways import difference as difference_from_python
from tests.fuzz.command import Outcome, interrupted_after, run

# Processor time and memory that an input may take: so much in any case, and so much for each MB of its plain text. An event that
# is never closed is held until it is too long for one.
SECONDS, SECONDS_PER_MB = 15.0, 3.0
HELD_MB, MB_PER_MB = 400.0, 20.0

_ALONE_S = 600.0  # on the clock: a busy machine is slow

Commands = tuple[tuple[str, ...], ...]

_SLACK = 1e-6  # relative: seconds are floats
_OF_PEAK = ("mfu", "mfu_low", "mfu_high", "lower_mfu", "hfu", "causal", "by_dtype", "upper")
# Numbers with a unit of time that are differences, or a moment beside the one that counts as zero; they have a sign.
_SIGNED = ("start_s", "end_s", "drift_s", "offset_s")


def faults(path: Path, plain_mb: float, *, thorough: bool = True) -> Iterator[str]:
    """What is wrong with how this file is reported; `thorough`: in every output, and by the schema, which takes as long again."""
    before_mb = peak_mb()
    done = run("report", str(path), "--format", "json")
    yield from _bounds_passed(done, before_mb, plain_mb)
    if done.fault:
        yield done.fault
    elif done.is_sound:
        yield from wrong_report(done.out) if thorough else _wrong_numbers(done.out)


def reading_faults(data: bytes) -> Iterator[str]:
    """What is wrong with what the reader alone makes of these bytes."""
    try:
        with warnings.catch_warnings(), interrupted_after():
            warnings.simplefilter("error")
            trace = read_trace(io.BytesIO(data))
    except NotATraceError:
        return
    except BaseException:  # noqa: BLE001 - whatever escapes is what is looked for
        yield f"crashed: {traceback.format_exc()[-2_000:]}"
        return
    events = trace.events
    if (np.diff(events.start) < 0).any() or events.start[0] != 0 or (events.end < events.start).any():
        yield "its times are not in order"
    if otherwise := difference_from_python(data):
        yield otherwise
    for codes, values in ((events.name, trace.names), (events.track, trace.tracks), (events.args, trace.args)):
        if codes.max() >= len(values) or codes.min() < (-1 if values is trace.args else 0):
            yield "a code stands for nothing"


def _bounds_passed(done: Outcome, before_mb: float, plain_mb: float) -> Iterator[str]:
    if done.seconds > SECONDS + SECONDS_PER_MB * plain_mb:
        yield f"took {done.seconds:.1f} s for {plain_mb:.2f} MB"
    if (grown := peak_mb() - before_mb) > HELD_MB + MB_PER_MB * plain_mb:
        yield f"took {grown:.0f} MB for {plain_mb:.2f} MB"


def commands(path: Path, other: Path, target: Path) -> tuple[tuple[str, ...], ...]:
    """What else can be asked of a file; there is a sound trace to compare it with, and a place for a copy."""
    file, sound, copy = str(path), str(other), str(target)
    return (
        ("annotate", file, "-o", copy),
        ("annotate", file, "-o", copy, "--steps", "1:3"),
        ("check", file, "--budget", "mfu=30%", "--format", "json"),
        ("check", file, "--baseline", sound, "--budget", "step-time=+5%"),
        ("check", sound, "--baseline", file, "--format", "junit"),
        ("check", file, file, "--budget", "syncs=0", "--format", "github"),
        ("compare", file, sound),
        ("compare", sound, file, "--format", "json"),
        ("compare", file, file, "--format", "markdown"),
        ("report", file, "--baseline", sound, "-v"),
        ("report", file, "--format", "html"),
        ("report", file, "--format", "markdown", "--peak-flops", "5e14", "--model-flops", "1e12"),
        ("report", file, "--steps", "1:2"),
        ("report", file, "--select", "host", "--ignore", "HO001"),
    )


def faults_of_others(path: Path, other: Path, asked: Callable[[Commands], Commands] = tuple) -> Iterator[str]:
    """What is wrong with what the other verbs make of this file; `asked` chooses among the commands."""
    target = path.with_name("made.json")
    for words in asked(commands(path, other, target)):
        target.unlink(missing_ok=True)
        done = run(*words)
        if done.fault:
            yield f"{' '.join(words)}: {done.fault}"
        elif words[0] == "annotate":
            yield from (f"{' '.join(words)}: {wrong}" for wrong in _wrong_copy(done, target))


def faults_alone(path: Path) -> Iterator[str]:
    """What differs if a process of its own makes the report: the one here may not be what others have left of it."""
    words = ("report", str(path), "--format", "json")
    here = run(*words)
    command = [sys.executable, "-W", "error", "-m", "mfu_doctor", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_ALONE_S, check=False)
    if (done.returncode, done.stderr) != (here.code or 0, here.err):
        yield f"alone it ends with {done.returncode}: {done.stderr[-2_000:]!r}, here with {here.code}: {here.err!r}"
    elif here.is_sound and (found := difference(essence(done.stdout), essence(here.out))):
        yield f"alone it is another report: {found}"


def _wrong_copy(done: Outcome, target: Path) -> Iterator[str]:
    """What is wrong with an annotated copy: it must be JSON that we read, or not be there."""
    if target.exists() != done.is_sound:
        yield "its output is there although it failed, or is not"
    if target.exists():
        try:
            json.loads(target.read_bytes(), parse_int=float)  # a number may have any number of digits
        except ValueError as error:
            yield f"its output is no JSON: {error}"
        again = run("report", str(target))
        if not again.is_sound:
            yield f"its output cannot be reported: {again.fault or again.err}"


def wrong_report(text: str) -> Iterator[str]:
    """What is wrong with a report in JSON: schema, sums, signs, round trip, the other outputs."""
    data = json.loads(text)
    yield from (f"schema: {error.message[:200]}" for error in _schema().iter_errors(data))
    yield from _wrong_numbers(text)
    report = _read_back(text)
    if isinstance(report, Report):
        for name in ("terminal", "markdown", "html"):
            render(report, name)


def _read_back(text: str) -> Report | str:
    """The report in a JSON, or why it is refused."""
    try:
        return Report.from_json(text)
    except NotATraceError as error:
        return error.problem


def _wrong_numbers(text: str) -> Iterator[str]:
    yield from _impossible(json.loads(text, parse_constant=_no_number), "")
    report = _read_back(text)
    if isinstance(report, str):
        yield f"it cannot be read back: {report}"
        return
    if report.to_json().decode().strip() != text.strip():
        yield "it is another report when it is read back"
    yield from _wrong_step(report)
    for diagnosis in report.diagnoses:
        if diagnosis.status == CRASHED:
            yield f"the rule {diagnosis.rule} crashed: {diagnosis.reason}"
        saving = diagnosis.saving
        if saving is not None and not 0 <= saving.low <= saving.mid * (1 + _SLACK) <= saving.high * (1 + 2 * _SLACK):
            yield f"the rule {diagnosis.rule} saves {saving.low}, {saving.mid}, {saving.high}"


def _wrong_step(report: Report) -> Iterator[str]:
    """What of the step's numbers does not add up, or cannot be."""
    split = report.breakdown
    parts = [float(getattr(split, name)) for name in BUCKETS]
    slack = _SLACK * max(split.step_s, _SLACK)
    if abs(sum(parts) - split.step_s) > slack:
        yield f"the buckets sum to {sum(parts)}, the step is {split.step_s}"
    if min(parts) < 0:
        yield f"a bucket is negative: {parts}"
    if split.idle_causes and abs(sum(split.idle_causes.values()) - split.idle) > slack:
        yield f"the causes sum to {sum(split.idle_causes.values())}, idle is {split.idle}"
    bars = [bar.seconds for bar in report.waterfall]
    if bars and abs(sum(bars) - split.step_s) > slack:
        yield f"the bars sum to {sum(bars)}, the step is {split.step_s}"
    if report.step_time_s is not None and not report.step_time_s.stated > 0:
        yield f"a step takes {report.step_time_s.stated} s"
    if any(row.peak_share is not None and row.peak_share > 1 and row.kind != "convolution" for row in report.kernels):
        yield "a kernel is above 100 % of the peak"
    if report.mfu.value is not None and not 0 <= report.mfu.value <= 1 + _SLACK:
        yield f"MFU {report.mfu.value}"


def _impossible(node: Any, name: str) -> Iterator[str]:
    """Numbers of a report that their names do not allow: a negative time, a share of more than everything."""
    if isinstance(node, dict):
        for key, part in node.items():
            yield from _impossible(part, key)
    elif isinstance(node, list):
        for part in node:
            yield from _impossible(part, name)
    elif isinstance(node, float):
        if not math.isfinite(node):
            yield f"{name} is {node}"
        elif node < 0 and name.endswith("_s") and name not in _SIGNED:
            yield f"{name} is negative: {node}"
        elif name in _OF_PEAK and not 0 <= node <= 1 + _SLACK:
            yield f"{name} is above 100 %: {node}"
        elif name == "share" and not 0 <= node <= 1 + _SLACK:
            yield f"{name} is {node}"


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def essence(text: str) -> Any:
    """A report without what tells when and from which file it was made."""
    data = json.loads(text)
    data.pop("created")
    data["run"].pop("trace")
    return data


def told(data: bytes, path: Path) -> Any:
    """What is reported of a file with these bytes, but for the file's name."""
    path.write_bytes(data)
    done = run("report", str(path), "--format", "json")
    return essence(done.out) if done.is_sound else (done.code, done.err, done.crash)


def difference(one: Any, other: Any, place: str = "") -> str:
    """Where two parsed documents differ first, and how; empty if they do not."""
    if type(one) is type(other) and isinstance(one, dict) and one.keys() == other.keys():
        return next((found for key in one if (found := difference(one[key], other[key], f"{place}.{key}"))), "")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return next((found for i, (a, b) in pairs if (found := difference(a, b, f"{place}[{i}]"))), "")
    return "" if one == other else f"{place}: {str(one)[:300]} is {str(other)[:300]}"


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
