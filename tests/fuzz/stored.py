"""Saved reports and settings of any content, and what must hold of the commands that read them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from mfu_doctor.render import render
from tests.fuzz.command import run
from tests.fuzz.mutants import mutant, mutated
from tests.sample_report import full_report

_SOUND = """[tool.mfu-doctor]
peak-flops = 989.5e12
model-flops = 1.2e15

[tool.mfu-doctor.check]
step-time = "+5%"
mfu = "30%"
syncs = 0
strict = true
allow-different = ["torch"]

[tool.mfu-doctor.rules]
input-bound = "error"
HO001 = "warn"
kernels = "off"
"""
_VALUES = [
    "1e308", "-1", "0", "inf", "nan", "true", '"5%"', '"٣%"', '"1e999%"', "[]", "[[[]]]", "{}", '""', "9" * 401, "1" + "0" * 30,
    "[" * 2_000 + "]" * 2_000, '"' + "x" * 5_000 + '"', "2026-01-01", "0x7fffffffffffffff", '"\\u0000"', '["torch", 5]', "'off'",
    '"' + "9" * 500 + 'ms"', '"-5%"', "0.000001",
]  # fmt: skip
_EDITS = 3


def settings_text(rng: random.Random) -> bytes:
    """A pyproject.toml: a sound one with other values, keys or bytes."""
    lines = _SOUND.splitlines()
    for _ in range(rng.randint(1, _EDITS)):
        at = rng.randrange(len(lines))
        key, equals, _value = lines[at].partition(" = ")
        kind = rng.randrange(5)
        if equals and kind < 3:
            lines[at] = f"{key} = {rng.choice(_VALUES)}"
        elif equals and kind == 3:
            lines[at] = f'"{rng.choice([key + "s", "", "x" * 3_000, "a.b"])}" = {_value}'
        else:
            lines.insert(at, rng.choice(lines))
    data = "\n".join(lines).encode()
    return mutated(data, rng) if rng.randrange(3) == 0 else data


def settings_faults(data: bytes, folder: Path) -> Iterator[str]:
    """What is wrong with how a report is checked under these settings."""
    folder.mkdir(exist_ok=True)
    report = folder / "sound.report.json"
    report.write_bytes(full_report().to_json())
    (folder / "pyproject.toml").write_bytes(data)
    with chdir(folder):
        for words in (("check", report.name), ("report", report.name), ("compare", report.name, report.name)):
            if fault := run(*words).fault:
                yield f"{words[0]}: {fault}"


def report_text(rng: random.Random) -> tuple[bytes, str]:
    """A saved report that was changed, and the suffix of its file."""
    if rng.randrange(4) == 0:
        return mutated(render(full_report(), "html").encode(), rng), ".html"
    return mutant(full_report().to_json(), rng), ".json"


def report_faults(path: Path) -> Iterator[str]:
    """What is wrong with what the verbs make of this saved report."""
    name = os.fspath(path)
    sound = path.with_name("sound.report.json")
    sound.write_bytes(full_report().to_json())
    for words in (("report", name), ("report", name, "--format", "html"), ("report", name, "--format", "json"),
                  ("report", name, "--peak-flops", "5e14", "--model-flops", "1e12"), ("check", name),
                  ("check", name, "--baseline", str(sound), "--format", "json"), ("compare", name, str(sound)),
                  ("compare", str(sound), name, "--format", "markdown")):  # fmt: skip
        if fault := run(*words).fault:
            yield f"{' '.join(words)}: {fault}"
