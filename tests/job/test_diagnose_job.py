"""A job from its traces to its report: one verb, one function, and the same report wherever the ranks are read."""

from __future__ import annotations

import gzip
import html
import json
import os
import re
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from msgspec.structs import asdict, replace

import mfu_doctor
from mfu_doctor.api.job import JobReport
from mfu_doctor.cli.check import CheckOptions, run_check
from mfu_doctor.cli.compare import CompareOptions, run_compare
from mfu_doctor.cli.report import ReportOptions, run_report
from mfu_doctor.errors import DoctorError
from mfu_doctor.job import executors
from mfu_doctor.job.diagnose import diagnose_job
from mfu_doctor.result import job as result
from tests.job.drawn_traces import LATE, write_job
from tests.patience import LONGEST_S

MS = 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("job") / "run", 3)


@pytest.fixture(scope="module")
def job(folder: Path) -> JobReport:
    return mfu_doctor.diagnose_job(folder)


def test_the_late_rank_its_cause_and_what_the_job_would_gain(job: JobReport) -> None:
    first = job.blames[0]
    assert first.ranks == (1,)
    assert first.cause == "data_loading"
    assert first.wait_s == pytest.approx(LATE * 1e-6, rel=0.02)
    assert job.verdict is not None
    assert "rank 1" in job.verdict.sentence


def test_one_verb_reads_the_directory_and_its_first_sentence_is_the_answer(folder: Path, job: JobReport) -> None:
    text = run_report(str(folder), ReportOptions()).text
    assert job.verdict is not None
    first = " ".join(row.strip() for row in text.splitlines()[1:5])
    assert job.verdict.sentence[:60] in first
    assert "3 ranks" in text.splitlines()[0]


def test_one_rank_of_it_is_read_alone(folder: Path) -> None:
    written = run_report(str(folder), ReportOptions(rank=1))
    assert "rank 1 of 3" in written.text
    assert f"mfu-doctor report {folder}" in written.text
    with pytest.raises(DoctorError, match="no trace of rank 7"):
        run_report(str(folder), ReportOptions(rank=7))


def test_python_asks_which_of_both_is_meant(folder: Path) -> None:
    with pytest.raises(DoctorError, match=r"holds 3 ranks of one run: mfu_doctor\.diagnose_job"):
        mfu_doctor.diagnose(folder)
    assert mfu_doctor.diagnose(folder, rank=2).run.rank == 2


def test_a_directory_with_one_rank_is_one_report(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "rank1.pt.trace.json.gz", tmp_path)
    assert "rank 1 of 3" in run_report(str(tmp_path), ReportOptions()).text


def same(folder: Path, **how: object) -> bytes:
    made = diagnose_job(folder, **how)  # type: ignore[arg-type]
    return JobReport.of(replace(made.report, created="")).to_json()


def test_the_report_is_the_same_from_one_process_and_from_two(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    for processes in (1, 2):
        monkeypatch.setattr(executors, "processes_for", lambda tasks, n=processes: n)
        made[processes] = same(folder)
    assert made[1] == made[2]
    with ThreadPoolExecutor(3) as pool:
        assert same(folder, executor=pool) == made[1]
    with ProcessPoolExecutor(2, mp_context=executors._context()) as pool:
        assert same(folder, executor=pool) == made[1]


# The libraries below leave warnings of their own behind.
@pytest.mark.filterwarnings("ignore")
def test_the_report_is_the_same_from_a_dask_cluster(folder: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    import dask

    patient = {f"distributed.comm.timeouts.{what}": f"{LONGEST_S:g}s" for what in ("connect", "tcp")}
    with (
        dask.config.set(patient),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        far = same(folder, executor=client.get_executor(pure=False))
        with executors.dask_executor(cluster.scheduler_address) as executor:
            assert same(folder, executor=executor) == far
        text = run_report(str(folder), ReportOptions(dask=cluster.scheduler_address)).text
        assert "rank 1 (straggler)" in text
    assert far == same(folder)


def test_a_store_is_read_like_a_directory(folder: Path, job: JobReport) -> None:
    fsspec = pytest.importorskip("fsspec", reason="the extra `remote` is not installed")
    store = fsspec.filesystem("memory")
    for path in folder.iterdir():
        store.pipe(f"/diagnose/{path.name}", path.read_bytes())
    with ThreadPoolExecutor(1) as here:  # this store is the memory of one process
        made = diagnose_job("memory://diagnose/", executor=here)
    assert replace(made.report, created="", source="") == replace(as_data(job), created="", source="")
    one = run_report("memory://diagnose/rank2.pt.trace.json.gz", ReportOptions())
    assert "rank 2 of 3" in one.text


def as_data(job: JobReport) -> result.JobReport:
    return result.JobReport(**asdict(job))


def test_what_cannot_be_a_part_of_it_is_named_and_left_out(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "rank0.pt.trace.json.gz").write_bytes(b"")
    stranger = json.loads(gzip.decompress((folder / "rank2.pt.trace.json.gz").read_bytes()))
    stranger["distributedInfo"] |= {"rank": 5, "world_size": 8}
    (tmp_path / "rank5.pt.trace.json.gz").write_bytes(gzip.compress(json.dumps(stranger).encode()))
    before = (tmp_path / "rank1.pt.trace.json.gz").stat().st_mtime_ns - 60 * 10**9
    os.utime(tmp_path / "rank5.pt.trace.json.gz", ns=(before, before))
    report = mfu_doctor.diagnose_job(tmp_path)
    assert [row.rank for row in report.ranks] == [1, 2]
    told = {out.rank: out.reason for out in report.left_out}
    assert told[0] == "rank0.pt.trace.json.gz is empty"
    assert told[5] == "it is of a run of 8 ranks, the newest trace is of one of 3"
    assert "rank0.pt.trace.json.gz" in str(report)


def test_a_run_again_with_fewer_ranks_into_the_same_folder_is_reported(tmp_path: Path) -> None:
    """The first run of four once beat the second of two: as many of its traces are left, and it is larger."""
    for path in write_job(tmp_path, 4).iterdir():
        before = path.stat().st_mtime_ns - 300 * 10**9
        os.utime(path, ns=(before, before))
    write_job(tmp_path, 2, slow=None)
    report = mfu_doctor.diagnose_job(tmp_path)
    assert ([row.rank for row in report.ranks], report.world_size, report.missing) == ([0, 1], 2, ())
    assert [out.rank for out in report.left_out] == [2, 3]


def test_one_readable_rank_is_no_job(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "rank1.pt.trace.json.gz", tmp_path)
    (tmp_path / "rank0.pt.trace.json.gz").write_bytes(b"")
    with pytest.raises(DoctorError, match=r"1 of 2 ranks could be read, which is no job \(rank0"):
        mfu_doctor.diagnose_job(tmp_path)


def test_a_saved_report_says_the_same_again(job: JobReport, tmp_path: Path) -> None:
    for name in ("job.json", "job.html"):
        job.save(tmp_path / name)
        again = JobReport.load(tmp_path / name)
        assert again.verdict == job.verdict
        shown = run_report(str(tmp_path / name), ReportOptions()).text
        assert shown.splitlines()[1:6] == str(job).splitlines()[1:6]
    with pytest.raises(DoctorError, match="stays as it is"):
        run_report(str(tmp_path / "job.json"), ReportOptions(peak_flops=1e12))
    with pytest.raises(DoctorError, match=r"mfu_doctor\.JobReport\.load"):
        mfu_doctor.Report.load(tmp_path / "job.json")
    assert JobReport.from_json(job.to_json()) == job


def test_the_page_has_a_page_of_each_rank_beside_it(folder: Path, tmp_path: Path) -> None:
    written = run_report(str(folder), ReportOptions(output=str(tmp_path / "page.html")))
    page = (tmp_path / "page.html").read_text()
    for rank in range(3):
        assert f'href="./page.ranks/rank{rank}.html"' in page
        assert f"rank{rank}.pt.trace.json.gz" in (tmp_path / "page.ranks" / f"rank{rank}.html").read_text()
    assert "3 pages of ranks" in written.notes[-1]


def test_the_page_of_a_rank_is_found_whatever_the_page_is_called(folder: Path, tmp_path: Path) -> None:
    """A browser took `run:7#2.ranks/rank0.html` for an address of the scheme "run", and cut it at the #."""
    page = tmp_path / "run:7#2 50%?.html"
    run_report(str(folder), ReportOptions(output=str(page)))
    links = re.findall(r'href="([^"]*rank[0-9]\.html)"', page.read_text())
    assert len(links) == 3
    for link in links:
        there = urlsplit(urljoin(page.as_uri(), html.unescape(link)))
        assert (there.scheme, there.query, there.fragment) == ("file", "", "")
        assert Path(unquote(there.path)).is_file()


def test_check_judges_a_job(folder: Path, tmp_path: Path) -> None:
    def check(*budgets: str, **options: object) -> tuple[str, int]:
        return run_check([str(folder)], CheckOptions(budgets=budgets, **options), environ={}, folder=tmp_path)  # type: ignore[arg-type]

    text, status = check("wait-for-ranks=1%")
    assert status == 1
    assert "wait-for-ranks" in text
    assert check("wait-for-ranks=90%", "rank-spread=90%", "job-step-time=1s")[1] == 0
    saved = tmp_path / "base.json"
    mfu_doctor.diagnose_job(folder).save(saved)
    assert check("job-step-time=+5%", baseline=(str(saved),))[1] == 0
    with pytest.raises(DoctorError, match="is one rank: pass all ranks"):
        check(baseline=(str(folder / "rank0.pt.trace.json.gz"),))
    with pytest.raises(DoctorError, match="only a job has"):
        run_check(
            [str(folder / "rank0.pt.trace.json.gz")],
            CheckOptions(budgets=("wait-for-ranks=5%",)),
            environ={},
            folder=tmp_path,
        )


def test_two_jobs_are_compared(folder: Path, tmp_path: Path) -> None:
    mended = write_job(tmp_path / "mended", 3, slow=None)
    text, status = run_compare(str(folder), str(mended), CompareOptions())
    assert status == 0
    assert "x faster" in text
    assert "the prediction for straggler-rank" in text
    assert "waiting for ranks" in text
    assert "job step time" not in text


def test_standard_input_is_no_rank_among_others(folder: Path) -> None:
    with pytest.raises(DoctorError, match="standard input is one trace"):
        run_report(["-", str(folder / "rank0.pt.trace.json.gz")], ReportOptions())


def test_rules_are_chosen_by_name_and_a_wrong_name_fails_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    assert [found.rule for found in mfu_doctor.diagnose_job(folder, select=["straggler-rank"]).findings] == [
        "straggler-rank"
    ]
    assert "straggler-rank" not in [found.rule for found in mfu_doctor.diagnose_job(folder, ignore=["RA"]).findings]
    with pytest.raises(DoctorError, match="there is no rule 'stragler'"):
        mfu_doctor.diagnose_job(tmp_path / "nothing", select=["stragler"])


def test_what_was_looked_for_and_not_found_is_kept(folder: Path, job: JobReport) -> None:
    assert "slow-node" in job.passed
    assert not set(job.passed) & {found.rule for found in job.findings}


def test_what_no_rank_could_judge_is_not_passed_in_silence(folder: Path, job: JobReport, tmp_path: Path) -> None:
    """A job was "passed" at `--level gc-pause=error`, and no rank had recorded the collector."""
    reasons = {one.rule: one.reason for one in job.unjudged}
    assert reasons["gc-pause"].startswith("this is not in a torch.profiler trace")
    assert not reasons.keys() & (job.passed.keys() | {found.rule for found in job.findings})
    options = CheckOptions(levels=("gc-pause=error",), strict=True)
    text, status = run_check([str(folder)], options, environ={}, folder=tmp_path)
    assert (status, "UNSURE gc-pause" in text) == (1, True)
    assert " not measured)" in text.replace("\n", " ")


def test_a_check_of_one_rank_names_the_folder_of_all(folder: Path, tmp_path: Path) -> None:
    """It said `mfu-doctor report DIR`, which the report of the same trace does not."""
    text, _ = run_check([str(folder / "rank0.pt.trace.json.gz")], CheckOptions(), environ={}, folder=tmp_path)
    assert "mfu-doctor report DIR" not in text
    assert f"mfu-doctor report {folder}" in " ".join(text.replace("\\", "").split())
