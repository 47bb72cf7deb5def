"""How tests of rules about ranks ask them about a drawn job: the finding and its price by replay, or silence.

`tests/test_drawn_timelines.py` finds these calls: a rule needs a job in which it finds something and one in which it is silent.
"""

from __future__ import annotations

from mfu_doctor.job.across.job import Job
from mfu_doctor.rules.job_contract import JobFault, JobRule
from mfu_doctor.units import NS_PER_US
from tests.job.drawing import DrawnJob


def job_of(drawn: DrawnJob) -> Job:
    """The job that is drawn."""
    return Job(tuple(drawn.summaries()))


def found(rule: JobRule, job: Job) -> JobFault:
    """The rule's finding; fails the test where it has none."""
    outcome = rule.judge(job)
    assert isinstance(outcome, JobFault), f"{rule.name} found nothing in this job, it returned {outcome}"
    return outcome


def saved_us(rule: JobRule, job: Job) -> tuple[float, float]:
    """What the finding saves of the step of the job, low and best estimate, in microseconds."""
    change = found(rule, job).change
    assert change is not None, f"{rule.name}: its finding has no change that replay could price"
    price, step = job.replay.price(change), float(job.replay.base_ns.mean()) / NS_PER_US
    return price.low * step, price.mid * step


def silent(rule: JobRule, job: Job) -> None:
    """The rule looked at this job, and it is fine; fails the test where it found something, and where it could not judge."""
    outcome = rule.judge(job)
    assert outcome is None, f"{rule.name} must be silent (None) in this job, it returned {outcome}"
