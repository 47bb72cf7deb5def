"""A choice is one in a job as on a rank: called so in the first sentence, and ranked by what it surely saves."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.job.across.plain_reach import plain_reach
from mfu_doctor.job.join.join import join
from mfu_doctor.job.summary import Mended, RankSummary
from mfu_doctor.render import render
from mfu_doctor.result.findings import FAILED, Diagnosis, Saving, first_words
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.job_as_run import as_run
from mfu_doctor.result.run import DeviceInfo
from tests.job.drawing import DrawnJob

RANKS, STEP_US = 4, 1050
CHOICE = Diagnosis(
    rule="fp32-matmul",
    code="KE001",
    status=FAILED,
    summary="Matmuls run in fp32",
    fix="torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    risk="rounding",
    trades=True,
    confidence="hint",
)
FAULT = Diagnosis(rule="gc-pause", code="HO009", status=FAILED, summary="Garbage is collected", fix="gc.freeze()")


def drawn(us: float) -> list[RankSummary]:
    job = DrawnJob(RANKS)
    for _ in range(5):
        job.step()
        job.work(us)
        job.collective(50)
    return job.summaries()


def healthy(*found: tuple[Diagnosis, tuple[float, float, float]]) -> JobReport:
    """A job in which nobody waits, and all ranks found the same: each with the work left at its low, mid and high end."""
    recorded = drawn(1000)
    ends = [[[plain_reach(one) for one in drawn(us)] for us in left] for _, left in found]
    ranks = []
    for place, one in enumerate(recorded):
        savings = [_saving(left) for _, left in found]
        own = tuple(replace(said, saving=saving) for (said, _), saving in zip(found, savings, strict=True))
        mended = tuple(
            Mended(said.rule, *(end[place] for end in each)) for (said, _), each in zip(found, ends, strict=True)
        )
        report = replace(one.report, diagnoses=own, device=DeviceInfo(kind="cpu"))
        ranks.append(replace(one, report=report, reach=plain_reach(one), mended=mended))
    return join(ranks, source="runs/7", rules=())


def _saving(left: tuple[float, float, float]) -> Saving:
    low, mid, high = ((1000 - us) * 1e-6 for us in left)
    return Saving(low=low, mid=mid, high=high)


def sentence(report: JobReport) -> str:
    assert report.verdict is not None
    return report.verdict.sentence


def test_a_healthy_job_is_not_told_to_fix_a_choice() -> None:
    """ "Try first: matmuls run in fp32" stood above a job whose ranks each say that no fault was found."""
    report = healthy((CHOICE, (950, 800, 750)))
    told = (
        "No fault was found. A choice that trades exactness: matmuls run in fp32 or TF32 (fp32-matmul, all 4 ranks); "
    )
    assert told in sentence(report)
    (found,) = report.findings
    assert (found.trades, found.risk) == (True, "rounding")
    assert first_words(found, report.findings) == first_words(CHOICE, [CHOICE])
    for form in ("terminal", "markdown", "html"):
        text = " ".join(render(report, form).split())
        assert "No fault was found. A choice that trades exactness" in text
        assert not any(words in text for words in ("Try first", "Fix first"))
    (listed,) = as_run(report).failed
    assert (listed.trades, listed.risk) == (True, "rounding")


def test_a_choice_before_a_fault_is_said_to_save_most() -> None:
    report = healthy((CHOICE, (700, 600, 600)), (FAULT, (900, 900, 900)))
    assert [one.rule for one in report.findings] == ["fp32-matmul", "gc-pause"]
    assert "Most is saved by a choice that trades exactness: " in sentence(report)
    assert "No fault" not in sentence(report)


def test_a_choice_is_ranked_by_what_it_surely_saves() -> None:
    """It may save 400 us, and surely 50: the fault of 100 comes first."""
    report = healthy((CHOICE, (950, 600, 600)), (FAULT, (900, 900, 900)))
    assert [one.rule for one in report.findings] == ["gc-pause", "fp32-matmul"]
    assert "Fix first: " in sentence(report)


def test_a_choice_of_what_is_learned_says_what_is_chosen() -> None:
    dropout = replace(
        CHOICE, rule="unfused-attention", code="KE003", risk="convergence", summary="Dropout of the scores: it costs"
    )
    told = "A choice that changes what is learned: dropout of the scores (unfused-attention, all 4 ranks); "
    assert told in sentence(healthy((dropout, (800, 800, 800))))


def test_a_healthy_job_says_that_nothing_helps() -> None:
    assert sentence(healthy()).endswith("No known fix saves 1 % of the step.")
    untold = [replace(one, reach_reason="it has no launch calls") for one in drawn(1000)]
    said = sentence(join(untold, source="runs/7", rules=()))
    assert said.endswith("No saving can be predicted: it has no launch calls.")


@pytest.mark.parametrize("collectives", [0, 1])
def test_without_matched_collectives_nobody_is_said_not_to_wait(collectives: int) -> None:
    """ "No rank waits for another for as much as 1 % of the step" stood under collectives of which none could be matched."""
    job = DrawnJob(2)
    for _ in range(3):
        job.step()
        job.work(1000)
        for rank in range(2 * collectives):
            job.collective(20, group=f"own {rank}", among=(rank,))
    what = "could be matched between the ranks" if collectives else "was recorded"
    said = sentence(join(job.summaries(), source="runs/7"))
    assert f"No collective {what}, so who waits for whom is not known." in said
