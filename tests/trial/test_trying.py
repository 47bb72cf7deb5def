"""What is tried of a report, in which order, and what is told of it."""

from __future__ import annotations

from mfu_doctor.facts import Facts, HostFacts, LoaderFacts
from mfu_doctor.result.run import DeviceInfo
from mfu_doctor.trial.bench import Bench, Budget
from mfu_doctor.trial.command import Program
from mfu_doctor.trial.remedies.remedy import Circumstances
from mfu_doctor.trial.trying import chosen, plan_told
from mfu_doctor.trial.turns import Arm
from tests.runs import finding, report_of, steady
from tests.trial.drawn import fix

FACTS = Facts(loaders=(LoaderFacts(class_name="DataLoader", num_workers=0, pin_memory=False),), host=HostFacts())


def test_one_fix_of_each_finding_comes_before_the_second_of_any() -> None:
    """With little time every finding has its turn."""
    found = (finding("gc-pause", "HO001"), finding("anomaly-mode", "HO031"), finding("input-bound", "IN001"))
    choice = chosen(Circumstances(report_of(steady(0.1), diagnoses=found), FACTS), (), everything=False)
    names = [arm.fixes[0].remedy.name for arm in choice.arms]
    assert names == ["gc-freeze", "anomaly-off", "loader-workers", "gc-threshold", "rare-gc-collect"]


def test_nothing_is_predicted_of_a_fix_that_does_not_apply() -> None:
    """The finding is about both, and this processor has no TF32."""
    report = report_of(
        steady(0.1), device=DeviceInfo(name="a processor", kind="cpu"), diagnoses=(finding("fp32-matmul", "KE001"),)
    )
    (tf32,) = chosen(Circumstances(report, FACTS), (), everything=False).left_out
    assert (tf32.name, tf32.reason, tf32.predicted_s) == ("tf32", "no GPU was used", None)


def test_no_more_time_is_promised_than_is_left() -> None:
    bench = Bench(Program(("train.py",)), Budget(140.0))
    assert plan_told(bench, [Arm((fix("it"),))]).endswith("for 2.3 minutes at most")
