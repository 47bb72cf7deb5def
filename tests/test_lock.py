"""The locked versions are those that pyproject.toml allows, and its oldest versions can be read off it."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.patience import LONGEST_S
from tests.traces import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / ".ci" / "lock.txt").read_text(encoding="utf-8")
INSTALLED = ("torch", "test", "dev", "integrations")  # the extras that .ci/run installs


def requirements() -> list[Requirement]:
    """What the project and the extras that .ci/run installs declare, without references between extras."""
    lines = [*PROJECT["dependencies"], *(line for name in INSTALLED for line in PROJECT["optional-dependencies"][name])]
    return [requirement for line in lines if (requirement := Requirement(line)).name != "mfu-doctor"]


def locked() -> dict[str, str]:
    """Versions by name."""
    rows = [row.partition("==") for row in LOCK.splitlines() if not row.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in rows}


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_what_is_declared_is_locked_at_an_allowed_version(requirement: Requirement) -> None:
    version = locked().get(canonicalize_name(requirement.name))
    assert version is not None, "renew the lock: .ci/renew-lock"
    assert version in requirement.specifier, "renew the lock: .ci/renew-lock"


def test_the_lock_names_one_exact_version_of_each() -> None:
    rows = [row for row in LOCK.splitlines() if not row.startswith("#")]
    assert all("==" in row and "*" not in row and "+" not in row for row in rows)
    assert len(locked()) == len(rows)


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "oldest.py"], capture_output=True, text=True, check=True, timeout=LONGEST_S
    )
    oldest = dict(row.split("==") for row in done.stdout.splitlines())
    for requirement in requirements():
        assert oldest[requirement.name] in requirement.specifier
        assert str(requirement.specifier) == f">={oldest[requirement.name]}"
