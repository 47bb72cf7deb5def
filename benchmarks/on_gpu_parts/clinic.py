"""The clinic's patients on the device, faulty and mended in turns: predicted against measured."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENTS = Path(__file__).resolve().parents[2] / "examples" / "clinic" / "patients"

# What a GPU has and a CPU has not comes first; controls are among them.
ORDER = ("fp32_matmul", "healthy_gpt", "unfused_optimizer", "unfused_attention", "slow_loader", "unfused_elementwise")
ORDER += ("needless_recompute", "contiguous_copies", "healthy_mlp", "indexing_loop", "python_step", "healthy_loader")


def found(rehearse: bool) -> Iterator[dict[str, Any]]:
    """One line per patient; one that fails is told and does not end the others."""
    for name in ("healthy_mlp",) if rehearse else ORDER:
        with tempfile.TemporaryDirectory() as scratch:
            faulty, mended = (side(name, choice, Path(scratch)) for choice in ("--fault", "--fix"))
        yield {"fact": name.replace("_", "-"), **compared(faulty, mended)}


def side(name: str, choice: str, folder: Path) -> dict[str, Any]:
    """One run of a patient; `failed` where it did not end well."""
    trace = folder / f"{name}{choice}.pt.trace.json.gz"
    command = [sys.executable, str(PATIENTS / f"{name}.py"), choice, "--json", "--trace", str(trace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr[-500:]}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def compared(faulty: dict[str, Any], mended: dict[str, Any]) -> dict[str, Any]:
    """What the scoreboard has of a pair; why there is none."""
    for why in ("failed", "absent"):
        if why in faulty or why in mended:
            return {why: faulty.get(why) or mended.get(why)}
    expects = faulty["expects"]
    savings = {finding["rule"]: finding["saving_s"] for finding in faulty["findings"]}
    saving = savings.get(expects)
    predicted = faulty["step_s"] - saving[1] if saving else None
    error = predicted / mended["step_s"] - 1.0 if predicted else None
    steps = {"faulty_step_s": faulty["step_s"], "predicted_step_s": predicted, "mended_step_s": mended["step_s"]}
    left = [finding["rule"] for finding in mended["findings"]]
    return {"expects": expects, "found": list(savings), "left": left, **steps, "error": error}
