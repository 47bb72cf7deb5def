"""The page of each rank beside the page of its job: `page.html` links to `page.ranks/rank7.html`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from mfu_doctor.errors import DoctorError
from mfu_doctor.files import write_file
from mfu_doctor.render import render
from mfu_doctor.render.words.job import notable_ranks
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.report import Report

MOST = 64  # pages; of more ranks those that others wait for, the typical one, and those that wait most


def places_of_pages(job: JobReport, ranks: Mapping[int, Report], output: str | os.PathLike[str]) -> dict[int, str]:
    """Where the page of each rank will be, as a link on the page of the job; nothing for a saved report.

    A `#` or `?` in the name would end the address, and what stands before a `:` would be its scheme.

    Args:
        job: the job.
        ranks: the reports of its ranks.
        output: the page of the job.
    """
    folder = quote(Path(output).with_suffix(".ranks").name)
    shown = [line.row.rank for line in notable_ranks(job, MOST)]
    return {rank: f"./{folder}/rank{rank}.html" for rank in shown if rank in ranks}


def write_pages(
    places: Mapping[int, str],
    ranks: Mapping[int, Report],
    output: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
) -> None:
    """Write the pages.

    Raises:
        DoctorError: their folder cannot be made, or one of them cannot be written.
    """
    folder = Path(output).with_suffix(".ranks")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise DoctorError(f"{folder} cannot be made ({error.strerror})", "write the page elsewhere") from error
    for rank, place in places.items():
        write_file(Path(output).with_name(folder.name) / Path(place).name, render(ranks[rank], "html"), inputs=inputs)
