"""Cuts the kept traces to small fixtures, each with what it proves. Needs no GPU: it can be run again where the results lie."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mfu_doctor
from mfu_doctor.annotation.annotate import annotate
from mfu_doctor.annotation.perfetto import PID
from mfu_doctor.reading import read_trace
from on_gpu_parts.job import ROOT, TRACES, Job, add, latest

FIXTURES, PROVES = "fixtures.zip", "PROVES.md"
STEPS = 2  # that a fixture has
MOST_BYTES = 400_000  # of a fixture, packed
SECRETS = ("host_name",)  # keys of a header that say where it was recorded


def found(job: Job) -> Iterator[dict[str, Any]]:
    """One line per trace."""
    archive = job.out / FIXTURES
    archive.unlink(missing_ok=True)
    lines = ["# What each fixture proves", ""]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in latest(job.out / TRACES).items():
            whole = Path(folder) / name
            whole.write_bytes(content)
            try:
                fact, packed = cut(whole)
            except mfu_doctor.DoctorError as error:
                yield {"fact": name, "failed": str(error)}
                continue
            kept = len(packed) <= MOST_BYTES and add(archive, name, packed)
            if kept:
                lines.append(f"- `{name}`: {proves(fact)}")
            yield {"fact": name, "kept": kept, **fact}
    add(archive, PROVES, "\n".join([*lines, ""]).encode())


def cut(whole: Path) -> tuple[dict[str, Any], bytes]:
    """A few steps of a trace, without what says where it was recorded; and what both say."""
    report = mfu_doctor.diagnose(whole)
    judged = [step.number for step in report.steps if step.steady]
    first = judged[0]
    part = whole.with_name("cut.json")
    annotate(whole, part, steps=(first, first + STEPS))
    document = json.loads(part.read_text(encoding="utf-8"))
    document["traceEvents"] = [event for event in document["traceEvents"] if event.get("pid") != PID]
    for key in SECRETS:
        document.pop(key, None)
    text = json.dumps(document, separators=(",", ":")).replace(f"{ROOT}/", "")
    packed = gzip.compress(text.encode(), 9, mtime=0)
    small = whole.with_name("small.pt.trace.json.gz")
    small.write_bytes(packed)
    again = mfu_doctor.diagnose(small)
    versions = dict(read_trace(small).versions)
    kernels = round(sum(kernel.count for kernel in again.kernels))
    rules = {"finds": [d.rule for d in again.failed], "whole_finds": [d.rule for d in report.failed]}
    return {"bytes": len(packed), "steps": len(again.steps), "kernels": kernels, "versions": versions, **rules}, packed


def proves(fact: dict[str, Any]) -> str:
    """In a line of the list."""
    versions = ", ".join(f"{name} {version}" for name, version in fact["versions"].items()) or "no versions"
    first = fact["finds"][0] if fact["finds"] else "nothing"
    same = "as in the whole trace" if fact["finds"][:1] == fact["whole_finds"][:1] else "unlike the whole trace"
    return f"{fact['steps']} steps, {fact['kernels']} kernels, {versions}; first finding {first}, {same}"
