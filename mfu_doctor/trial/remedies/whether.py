"""Reasons why a remedy does not apply that several of them share; None where nothing speaks against it, or nothing is known."""

from __future__ import annotations

import re
from collections.abc import Callable

from mfu_doctor.facts import LoaderFacts
from mfu_doctor.trial.remedies.remedy import Circumstances

WhyNot = Callable[[Circumstances], str | None]


def always(_: Circumstances) -> str | None:
    """It applies everywhere."""
    return None


def on_gpu(circumstances: Circumstances) -> str | None:
    """It is about a GPU."""
    return None if circumstances.on_gpu else "no GPU was used"


def on_many_ranks(circumstances: Circumstances) -> str | None:
    """It is about a job of several ranks."""
    facts = circumstances.facts
    return "the program trained on one rank" if facts is not None and (facts.world_size or 1) == 1 else None


def natively(dtype: str) -> WhyNot:
    """It needs a GPU with matrix units for this dtype."""

    def why_not(circumstances: Circumstances) -> str | None:
        peaks = circumstances.report.device.peaks
        lacking = circumstances.on_gpu and peaks and not peaks.get(dtype)
        return f"this GPU has no fast {dtype}" if lacking else None

    return why_not


def both(first: WhyNot, second: WhyNot) -> WhyNot:
    """Either reason is enough."""
    return lambda circumstances: first(circumstances) or second(circumstances)


def with_loader(holds: Callable[[LoaderFacts], bool], otherwise: str) -> WhyNot:
    """It needs a DataLoader of which this holds."""

    def why_not(circumstances: Circumstances) -> str | None:
        facts = circumstances.facts
        if facts is None:
            return None
        if not facts.loaders:
            return "no DataLoader was used"
        return None if any(holds(loader) for loader in facts.loaders) else otherwise

    return why_not


def since_torch(major: int, minor: int) -> WhyNot:
    """It needs this version of torch."""

    def why_not(circumstances: Circumstances) -> str | None:
        version = circumstances.torch
        return f"it needs torch {major}.{minor}" if version is not None and version < (major, minor) else None

    return why_not


def advised(pattern: str, rules: tuple[str, ...]) -> Callable[[Circumstances], str | None]:
    """The number that a finding of one of these rules advises: the first group of the pattern in its fix."""

    def setting(circumstances: Circumstances) -> str | None:
        fixes = (finding.fix or "" for finding in circumstances.report.diagnoses if finding.rule in rules)
        found = (re.search(pattern, fix) for fix in fixes)
        return next((match[1] for match in found if match is not None), None)

    return setting
