"""The report of a job: its sentence, what could be mended and what is saved, and what a reader may not rely on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from mfu_doctor.errors import DoctorError
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.plain_reach import plain_reach
from mfu_doctor.job.join.join import join
from mfu_doctor.job.summary import Mended, RankSummary
from mfu_doctor.render import render
from mfu_doctor.render.words.job import left_out
from mfu_doctor.result.findings import FAILED, Diagnosis, Saving
from mfu_doctor.result.job import JobReport
from mfu_doctor.result.job_as_run import as_run
from mfu_doctor.result.run import DeviceInfo
from mfu_doctor.result.step import Breakdown, CodeLine
from mfu_doctor.rules.catalogue import JOB_RULES
from tests.job.drawing import DrawnJob


def slow_loader(us: float = 300) -> DrawnJob:
    """Rank 1 loads for longer than the others."""
    drawn = DrawnJob(4, hosts=["a"] * 4)
    for _ in range(5):
        drawn.step()
        drawn.work(1000)
        drawn.work({1: us}, "data_loading")
        drawn.collective(50)
    return drawn


def told(drawn: DrawnJob) -> JobReport:
    return join(drawn.summaries(), source="runs/7")


def with_finding(summaries: list[RankSummary], left_us: float = 0) -> list[RankSummary]:
    """Rank 1 has found its loader, and replayed itself with what its fix leaves of the wait."""
    quick = plain_reach(slow_loader(left_us).summaries()[1])
    slow = summaries[1]
    saving = Saving(low=300e-6, mid=300e-6, high=300e-6)
    found = Diagnosis(
        rule="input-bound",
        code="IN001",
        status=FAILED,
        fix="DataLoader(num_workers=4)",
        place="train.py:7",
        saving=saving,
    )
    mended = (Mended("input-bound", quick, quick, quick),)
    reach = plain_reach(slow)
    slow = replace(slow, report=replace(slow.report, diagnoses=(found,)), reach=reach, mended=mended)
    return [summaries[0], slow, *summaries[2:]]


def test_the_first_sentence_is_the_answer() -> None:
    report = told(slow_loader())
    assert report.verdict is not None
    assert report.verdict.sentence == (
        "All other ranks wait 300 us a step (22 %) for rank 1: waiting for data takes 300 us there, 0 ms on the others. "
        "Up to 0.30 of 1.35 ms are at stake; what gets them back is not known yet (straggler-rank, rank 1; modelled)."
    )
    mended = join(with_finding(slow_loader().summaries()), source="runs/7").verdict
    assert mended is not None
    assert mended.sentence.endswith(
        " 0.30 of 1.35 ms can be saved (straggler-rank, rank 1, train.py:7; 1.3x, modelled)."
    )
    assert report.wait_s == pytest.approx(225e-6)
    assert [row.waited_for_s for row in report.ranks] == pytest.approx([0, 300e-6, 0, 0])


def test_causes_sum_to_the_lateness() -> None:
    (blame,) = told(slow_loader()).blames
    assert blame.causes == pytest.approx({"data_loading": 300e-6})
    assert (blame.ranks, blame.cause) == ((1,), "data_loading")


def test_a_late_ranks_own_finding_gives_its_fix() -> None:
    report = join(with_finding(slow_loader().summaries()), source="runs/7")
    assert [(one.rule, one.ranks, one.fix, one.place) for one in report.findings] == [
        ("straggler-rank", (1,), "DataLoader(num_workers=4)", "train.py:7")
    ]


@pytest.mark.parametrize(("left_us", "low_us", "at_best"), [(0, 300, False), (240, 60, True)])
def test_a_fix_that_leaves_some_of_the_lateness_saves_at_most_all_of_it(
    left_us: float, low_us: float, at_best: bool
) -> None:
    """A job promised 130 ms with a fix, one loader worker on one core, that saves 24."""
    saving = join(with_finding(slow_loader().summaries(), left_us), source="runs/7").findings[0].saving
    assert saving is not None
    assert (saving.low, saving.mid, saving.high) == pytest.approx((low_us * 1e-6, 300e-6, 300e-6))
    assert saving.at_best == at_best


def test_a_fix_that_was_not_replayed_saves_at_most_all_of_the_lateness() -> None:
    ranks = with_finding(slow_loader().summaries())
    saving = join([replace(one, mended=()) for one in ranks], source="runs/7").findings[0].saving
    assert saving is not None
    assert saving.at_best


def test_a_finding_that_helps_no_other_rank_saves_nothing() -> None:
    """Rank 0 could do without 200 us, but all wait for rank 1 anyway."""
    ranks = slow_loader().summaries()
    quick = DrawnJob(4, hosts=["a"] * 4)
    for _ in range(5):
        quick.step()
        quick.work({0: 800, 1: 1000, 2: 1000, 3: 1000})
        quick.work({1: 300}, "data_loading")
        quick.collective(50)
    mended = plain_reach(quick.summaries()[0])
    first = replace(ranks[0], reach=plain_reach(ranks[0]), mended=(Mended("host-bound", mended, mended, mended),))
    report = join([first, *ranks[1:]], source="runs/7")
    assert [one.rule for one in report.findings] == ["straggler-rank"]


def test_what_a_rank_lists_under_its_cause_is_listed_under_it_in_the_job() -> None:
    """Each rank folded uncompiled into host-bound, and the job listed both, the symptom first."""
    ranks, quick = slow_loader(0).summaries(), DrawnJob(4, hosts=["a"] * 4)
    for _ in range(5):
        quick.step()
        quick.work(dict.fromkeys(range(4), 700))
        quick.collective(50)
    saving = Saving(low=200e-6, mid=300e-6, high=300e-6)
    cause = Diagnosis(rule="host-bound", code="HO001", status=FAILED, saving=saving)
    symptom = replace(cause, rule="uncompiled", code="HO003", explained_by="host-bound")

    def rules(*mended: str) -> list[str]:
        told = []
        for one, after in zip(ranks, quick.summaries(), strict=True):
            reach = plain_reach(after)
            fixes = tuple(Mended(rule, reach, reach, reach) for rule in mended)
            report = replace(one.report, diagnoses=(symptom, cause))
            told.append(replace(one, report=report, reach=plain_reach(one), mended=fixes))
        return [found.rule for found in join(told, source="runs/7").findings]

    assert rules("uncompiled", "host-bound") == ["host-bound"]
    assert rules("uncompiled") == ["uncompiled"]  # where the cause cannot be mended in the job's steps, its symptom can


@pytest.mark.parametrize(("more_us", "named"), [(1, False), (600, True)])
def test_a_first_fix_that_is_not_about_the_waiting_comes_with_what_limits_the_ranks(more_us: int, named: bool) -> None:
    """ "Ranks wait for rank 7 ... Try first: torch.compile" left readers to ask what one has to do with the other."""
    drawn, quick = DrawnJob(4), DrawnJob(4)
    for _ in range(5):
        for job, us in ((drawn, 1000), (quick, 500)):
            job.step()
            job.work({0: us, 1: us, 2: us + 30, 3: us})
            job.collective(50)
    saving = Saving(low=500e-6, mid=500e-6, high=500e-6)
    own = Diagnosis(rule="host-bound", code="HO001", status=FAILED, summary="Python takes most", saving=saving)
    own = replace(own, fix="model = torch.compile(model)")
    ranks = []
    for one, after in zip(drawn.summaries(), quick.summaries(), strict=True):
        reach, more = plain_reach(after), more_us * 1e-6 if one.rank == 3 else 0.0
        mine = replace(own, saving=replace(saving, mid=saving.mid + more))
        split = Breakdown(step_s=1e-3, compute=4e-4, idle=6e-4, idle_causes={"python": 6e-4})
        own_report = replace(one.report, diagnoses=(mine,), breakdown=split)
        mended = (Mended("host-bound", reach, reach, reach),)
        ranks.append(replace(one, report=own_report, reach=plain_reach(one), mended=mended))
    report = join(ranks, source="runs/7")
    assert report.verdict is not None
    limits, fix, waits = report.verdict.sentence.split(". ")
    assert limits == "Host-bound: waiting for the CPU takes 60 % of the step (Python), mean of 4 ranks"
    assert fix.startswith("Fix first: the device waits for the CPU (host-bound, all 4 ranks); saves 0.50 of 1.08 ms")
    assert waits.startswith("Within communication, all other ranks wait 30.0 us a step (2.8 %) for rank 2")
    screen = render(report, "terminal")
    said = "On all ranks, most on rank 3: Python takes most"
    assert (said in screen) == named
    assert not named or screen.index("model = torch.compile(model)") < screen.index(said)
    assert screen.index("1 host-bound") < screen.index("who is late")


def test_the_line_that_computes_longer_on_the_late_rank_is_named() -> None:
    drawn = DrawnJob(4)
    for _ in range(5):
        drawn.step()
        drawn.work({0: 1000, 1: 1300, 2: 1000, 3: 1000})
        drawn.collective(50)
    same, more = (
        CodeLine(place="train.py:9", seconds=9e-4, share=0.7),
        CodeLine(place="train.py:28", seconds=3e-4, share=0.2),
    )
    lines = [(same,), (same, more), (same,), (same,)]
    ranks = [
        replace(one, report=replace(one.report, code_lines=known))
        for one, known in zip(drawn.summaries(), lines, strict=True)
    ]
    report = join(ranks, source="runs/7")
    assert report.findings[0].place == report.blames[0].place == "train.py:28"


def test_the_plan_is_the_jobs() -> None:
    report = join(with_finding(slow_loader().summaries()), source="runs/7")
    assert [step.rule for step in report.plan.steps] == ["straggler-rank"]
    assert report.plan.steps[0].step_s == pytest.approx(1050e-6)
    assert report.plan.notes == ()
    assert [(one.name, round(one.saving_s * 1e6)) for one in report.what_ifs] == [
        ("rank 1 like the others", 300),
        ("no skew", 225),
    ]


def test_a_late_rank_whose_own_report_is_the_fix_is_a_question_and_not_in_the_plan() -> None:
    """ "Up to 0.30 of 1.35 ms can be saved" had `mfu-doctor report runs/7 --rank 1` as its fix."""
    report = told(slow_loader())
    assert [one.fix for one in report.findings] == ["mfu-doctor report runs/7 --rank 1"]
    assert report.plan.steps == ()
    assert report.plan.notes == ("straggler-rank is not added: find out first what gets its time back",)


def test_a_question_that_is_not_about_the_waiting_is_looked_into_first() -> None:
    drawn, quick = DrawnJob(2), DrawnJob(2)
    for job, us in ((drawn, 1000), (quick, 500)):
        for _ in range(5):
            job.step()
            job.work({0: us, 1: us})
            job.collective(50)
    found = Diagnosis(rule="held-queue", code="DV006", status=FAILED, fix="mfu-doctor report TRACES/")
    found = replace(found, saving=Saving(low=500e-6, mid=500e-6, high=500e-6))
    ranks = []
    for one, after in zip(drawn.summaries(), quick.summaries(), strict=True):
        reach = plain_reach(after)
        mended = (Mended(found.rule, reach, reach, reach),)
        own = replace(one.report, diagnoses=(found,))
        ranks.append(replace(one, report=own, reach=plain_reach(one), mended=mended))
    verdict = join(ranks, source="runs/7").verdict
    assert verdict is not None
    assert "Look first: " in verdict.sentence
    assert "0.50 of 1.05 ms are at stake; what gets them back is not known yet (modelled)." in verdict.sentence


def test_a_fix_that_another_one_covers_is_an_overlap_of_the_jobs_plan() -> None:
    """Two rows of 500 us stood under each other, and nothing said that both are the same 500."""
    ranks, quick = slow_loader(0).summaries(), DrawnJob(4, hosts=["a"] * 4)
    for _ in range(5):
        quick.step()
        quick.work(dict.fromkeys(range(4), 500))
        quick.collective(50)
    saving = Saving(low=500e-6, mid=500e-6, high=500e-6)
    names = {"host-bound": "HO001", "device-sync": "HO002"}
    found = tuple(
        Diagnosis(rule=name, code=code, status=FAILED, summary=f"{name} here", fix="pass", saving=saving)
        for name, code in names.items()
    )
    both = []
    for one, after in zip(ranks, quick.summaries(), strict=True):
        reach = plain_reach(after)
        mended = tuple(Mended(name, reach, reach, reach) for name in names)
        own = replace(one.report, diagnoses=found)
        both.append(replace(one, report=own, reach=plain_reach(one), mended=mended))
    report = join(both, source="runs/7")
    assert all(one.told_of == 0 for one in report.findings)  # the figures of one of four
    assert any("On all ranks, here rank 0: " in one.summary for one in as_run(report).failed)
    (step,), (overlap,) = report.plan.steps, report.plan.overlaps
    assert {step.rule, overlap.rule} == set(names)
    assert overlap.covered_by == step.rule
    screen = " ".join(render(report, "terminal").split())
    assert f"alone; too little after {step.rule}" in screen
    assert f"All together: no more than {step.rule} alone" in screen


def test_what_is_missing_is_said() -> None:
    zero, one, _, three = slow_loader().summaries()
    report = join([zero, one, three], source="runs/7")
    assert report.missing == (2,)
    assert report.caveats[0].text.startswith("Rank 2 of 4 is not there")
    assert not report.groups[0].complete


def test_of_very_many_missing_ranks_all_are_counted_and_the_first_are_listed() -> None:
    ranks = [replace(one, world_size=2**20) for one in slow_loader().summaries()]
    report = join(ranks, source="runs/7")
    assert report.missing == tuple(range(4, 1004))
    assert report.caveats[0].text.startswith("1,048,572 ranks of 1048576 are not there")
    assert left_out(report) == ["without a trace: 1,048,572 ranks"]


def test_bus_bandwidth_is_that_of_the_transfer() -> None:
    """A MiB of each of four ranks in 50 us: 21 GB/s, of which a link carries 2 x 3 / 4."""
    (row,) = told(slow_loader()).collectives
    assert row.algorithm_bytes_s == pytest.approx((1 << 20) / 50e-6)
    assert row.bus_bytes_s == pytest.approx(1.5 * (1 << 20) / 50e-6)
    assert [row.count, row.wait_s, row.transfer_s] == pytest.approx([1, 225e-6, 50e-6])


def on_links(hosts: Sequence[str | None], read: int = 4) -> JobReport:
    """Four H100s reduce a MiB in 50 us, and in 350 where rank 3 is late; the first `read` of them have traces."""
    drawn = DrawnJob(4, hosts=hosts)
    for _ in range(5):
        drawn.step()
        drawn.work({0: 1000, 1: 1000, 2: 1000, 3: 1300})
        drawn.collective(50)
    gpu = DeviceInfo(name="NVIDIA H100 80GB HBM3")
    ranks = [replace(one, report=replace(one.report, device=gpu)) for one in drawn.summaries()]
    return join(ranks[:read], source="runs/7")


def link_of(report: JobReport) -> tuple[float | None, list[float]]:
    """What the link of the collective can do, and what its rate would save in microseconds."""
    saved = [one.saving_s * 1e6 for one in report.what_ifs if one.name == "collectives at the link's rate"]
    return report.collectives[0].link_bytes_s, saved


def test_inside_one_machine_the_link_counts() -> None:
    moved_us = 1.5 * (1 << 20) / (0.8 * 450e9) * 1e6
    link, saved = link_of(on_links(["a"] * 4))
    assert link == 450e9
    assert saved == pytest.approx([50 - moved_us])


def test_ranks_of_unknown_machines_are_not_taken_to_be_in_one() -> None:
    """Ranks of two nodes whose traces name no host were told to fall short of NVLink."""
    assert link_of(on_links([None] * 4)) == (None, [])
    assert link_of(on_links(["a", "a", "a", None])) == (None, [])
    assert link_of(on_links(["a", "a", "b", "b"])) == (None, [])


def test_waiting_for_a_rank_without_a_trace_is_not_the_links() -> None:
    """All wait 300 us for rank 3, which was not read: no faster link saves that, and no rate is known."""
    report = on_links(["a"] * 4, read=3)
    assert link_of(report) == (None, [])
    assert report.collectives[0].bus_bytes_s is None
    assert report.collectives[0].transfer_s == pytest.approx(350e-6)


def test_a_rule_that_crashes_is_named_and_the_others_are_asked() -> None:
    def broken(job: Job) -> None:
        raise ZeroDivisionError("of nothing")

    rules = (replace(JOB_RULES[1], judge=broken), JOB_RULES[0])
    report = join(slow_loader().summaries(), source="runs/7", rules=rules)
    assert [one.rule for one in report.findings] == ["straggler-rank"]
    assert report.caveats[-1].text == "The rule slow-node crashed: ZeroDivisionError: of nothing"


def test_the_drawn_step_shows_waits_and_arrivals() -> None:
    report = told(slow_loader())
    assert len(report.arrivals) == 1
    assert report.arrivals[0].last_rank == 1
    assert report.arrivals[0].arrive_s == pytest.approx((0.001, 0.0013, 0.001, 0.001))
    assert [owner for _, _, owner in report.strips[0].parts] == ["compute", "wait", "communication"]
    assert [owner for _, _, owner in report.strips[1].parts] == ["compute", "data_loading", "communication"]


def test_no_rank_is_no_job() -> None:
    with pytest.raises(DoctorError, match="no rank could be read"):
        join([], source="runs/7")
