"""The report of a job for users: the data of `result.job`, which can also load, save, draw and check itself."""

from __future__ import annotations

import os

from msgspec.structs import asdict

from mfu_doctor.errors import NotATraceError
from mfu_doctor.files import write_file
from mfu_doctor.gate.judge import check_report
from mfu_doctor.inputs.load import load_saved_job
from mfu_doctor.render import format_for, render
from mfu_doctor.result import job as result
from mfu_doctor.result.job_as_run import as_run
from mfu_doctor.result.stored import from_json, to_json
from mfu_doctor.result.verdict import Verdict


class JobReport(result.JobReport, frozen=True, kw_only=True):
    """Everything that is known about all ranks of a run. `print(report)` shows it, and Jupyter displays it."""

    @classmethod
    def of(cls, data: result.JobReport) -> JobReport:
        """The same report as a `JobReport` of this class."""
        return cls(**asdict(data))

    @classmethod
    def load(cls, source: str | os.PathLike[str]) -> JobReport:
        """Read a saved report of a job (.json or .html).

        Raises:
            DoctorError: it is none.
        """
        saved = load_saved_job(source)
        if saved is None:
            raise NotATraceError(
                f"{os.fspath(source)} is no saved report of a job", "mfu_doctor.diagnose_job(...) reads traces"
            )
        return cls.of(saved)

    @classmethod
    def from_json(cls, data: bytes | str) -> JobReport:
        """Read a report from its JSON. Unknown keys are ignored.

        Raises:
            DoctorError: the data is not a report of a job of a known schema.
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
        write_file(path, render(self, format_for("job", path=path)))

    def check(self, *, baseline: result.JobReport | None = None, **budgets: str | float) -> Verdict:
        """Check this job against budgets, for plain asserts: ``assert report.check(wait_for_ranks="5%").ok``.

        Args:
            baseline: the job that relative budgets such as ``job_step_time="+5%"`` refer to.
            budgets: limits by name; see `mfu_doctor.comparison.measures.MEASURES`.

        Raises:
            DoctorError: a budget is unknown or invalid, or the jobs cannot be compared.
        """
        return check_report(as_run(self), baseline=None if baseline is None else as_run(baseline), **budgets)

    def __str__(self) -> str:
        return render(self, "terminal")

    def _repr_markdown_(self) -> str:
        return render(self, "markdown")
