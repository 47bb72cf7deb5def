"""Prints the oldest version of everything that pyproject.toml declares, as constraints for pip.

    python .ci/oldest.py > oldest.txt

Made from the lower bounds themselves, so that what is declared and what is tried cannot drift apart.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
BOUND = re.compile(r"([A-Za-z0-9._-]+)>=([0-9][0-9.]*)(?:,.*)?")
OURS = re.compile(r"mfu-doctor\[\w+\]")  # one extra in another


def oldest(required: Iterable[str]) -> list[str]:
    """Lines `name==version`; a requirement without a lower bound is an error."""
    lines = set()
    for requirement in required:
        bound = BOUND.fullmatch(requirement)
        if bound is None:
            raise SystemExit(f"{PYPROJECT.name}: {requirement!r} has no lower bound; write name>=version")
        lines.add(f"{bound[1]}=={bound[2]}")
    return sorted(lines)


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra if not OURS.fullmatch(line)]
    print("\n".join(oldest(project["dependencies"] + extras)))
