"""The report for users: the data of `result.report`, which can also load, save, draw and check itself.

Only this class knows all of that. The modules below it work on the data alone, so that reading, checking and drawing do not
depend on each other.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from msgspec.structs import asdict

from mfu_doctor.files import write_file
from mfu_doctor.gate.judge import check_report
from mfu_doctor.inputs.load import load_input
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.render import format_for, render
from mfu_doctor.result import report as result
from mfu_doctor.result.stored import from_json, to_json
from mfu_doctor.result.verdict import Verdict
from mfu_doctor.trace import Trace


class Report(result.Report, frozen=True, kw_only=True):
    """Everything that is known about a run. `print(report)` shows it, and Jupyter displays it."""

    @classmethod
    def of(cls, data: result.Report) -> Report:
        """The same report as a `Report` of this class."""
        return cls(**asdict(data))

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | BinaryIO | Trace,
        *,
        peak_flops: float | None = None,
        model_flops: float | None = None,
        steps: tuple[int, int] | None = None,
    ) -> Report:
        """The report of any input of `mfu-doctor report`: a saved report is read, a trace is diagnosed.

        Args:
            source: a saved report (.json or .html), a trace, a directory of traces, an open binary stream, or "-".
            peak_flops: dense peak of the device in FLOP/s; None: the value of the report or of pyproject.toml.
            model_flops: FLOP per step; None: as for `peak_flops`.
            steps: analyse only recorded steps A <= n < B (of a trace).

        Raises:
            DoctorError: the source is none of these.
        """
        return cls.of(load_input(source, Overrides(peak_flops=peak_flops, model_flops=model_flops, steps=steps)).report)

    @classmethod
    def from_json(cls, data: bytes | str) -> Report:
        """Read a report from its JSON. Unknown keys are ignored.

        Raises:
            DoctorError: the data is not a report of a known schema.
        """
        return from_json(data, cls)

    def to_json(self) -> bytes:
        """The report as UTF-8 JSON, schema 1."""
        return to_json(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report in the format of the suffix: .json, .html, .md or .txt.

        Raises:
            DoctorError: the suffix is unknown, or the file cannot be written.
        """
        write_file(path, render(self, format_for("report", path=path)))

    def check(self, *, baseline: result.Report | None = None, **budgets: str | float) -> Verdict:
        """Check this report against budgets, for plain asserts: ``assert report.check(mfu="30%").ok``.

        Args:
            baseline: the report that relative budgets such as ``step_time="+5%"`` refer to.
            budgets: limits by name; see `mfu_doctor.comparison.measures.MEASURES`.

        Raises:
            DoctorError: a budget is unknown or invalid, or the runs cannot be compared.
        """
        return check_report(self, baseline=baseline, **budgets)

    def __str__(self) -> str:
        return render(self, "terminal")

    def _repr_html_(self) -> str:
        return render(self, "notebook")
