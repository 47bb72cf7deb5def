"""One verdict with every kind of check in it, and ways to make its texts hostile: what all formats are tested with."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from msgspec.structs import replace

from mfu_doctor.comparison.measures import parse_budgets
from mfu_doctor.gate.judge import Policy, judge
from mfu_doctor.result import findings as outcome
from mfu_doctor.result.verdict import FAILED, Check, Verdict
from tests.runs import finding, report_of, steady

# Long in place of random, and the pieces of text that end or begin something in each format.
BREAKERS = (
    "::error::x", "\n::warning file=a::b", "##[error]x", "%0A", "%", "\r\n", ",", ":", "]]>", "<script>", "&amp;", "\"'>", "|",
    "`", "``", "```", "*", "_", "</details>", "- [x]", "\x1b[31m", "\x00", "\ufffe", "\ud800", "\u2028", "\u202e", "@everyone",
    "https://x.y", "#1", "é", "漢", "x" * 300,
)  # fmt: skip
hostile_text = st.lists(st.one_of(st.sampled_from(BREAKERS), st.text(max_size=8)), max_size=5).map("".join)


def golden_verdict() -> Verdict:
    """Failed, inconclusive, warning, not measured and passed checks of runs against a baseline."""
    said = (
        finding(summary="GPU waits for data 27.9 % of the step", place="train.py:41"),
        finding("host-bound", "HO001", summary="9,412 launches a step", fix="model = torch.compile(model)"),
        finding("straggler", "CO002", status="not measured", reason="one rank", fix=None, saving=None),
        finding("fp32-matmul", "KE001", status="passed", summary="", fix=None, saving=None),
        finding("gc-pause", "HO004", status="withheld", reason="saves 0.0 ms", fix=None, saving=None),
    )
    runs = [
        report_of(
            steady(t, 0.004),
            trace=f"run{i}.json.gz",
            diagnoses=said,
            loading=0.279,
            structure={"syncs": 2.0, "launches": 9412.0},
            places={"syncs": ("train.py:57",)},
            cautions=("profiler slowed the step by 4.6 %",),
        )
        for i, t in enumerate((0.446, 0.4476, 0.449))
    ]
    base = report_of(steady(0.412, 0.004), trace="main @ 3f2c1e0", structure={"syncs": 1.0, "launches": 9412.0})
    budgets = {"step_time": "+5%", "mfu": "28.92%", "data_loading": "30%", "launches": 9500, "syncs": "+0"}
    return judge(runs, Policy(budgets=parse_budgets(budgets), levels={"input-bound": "error"}), baseline=[base])


def passing_verdict() -> Verdict:
    """Everything is well."""
    policy = Policy(budgets=parse_budgets({"step_time": "450ms"}))
    return judge([report_of(steady(0.412), diagnoses=(finding(status="passed", summary=""),))], policy)


def verdict_since(baseline_status: str = outcome.FAILED) -> Verdict:
    """One finding that is new since the baseline, and one that the baseline has too, or as its status says."""
    old = finding("host-bound", "HO001", summary="9,412 launches a step", fix="model = torch.compile(model)")
    gone = finding(status="passed", summary="", fix=None, saving=None)
    was = replace(old, status=baseline_status)
    run = report_of(steady(0.446), trace="head.json.gz", diagnoses=(finding(summary="GPU waits for data"), old))
    return judge([run], Policy(), baseline=[report_of(steady(0.412), trace="base.json.gz", diagnoses=(gone, was))])


def with_texts(verdict: Verdict, make: Callable[[], str]) -> Verdict:
    """The verdict with made-up text in every place that a trace or a user can fill."""

    def check(old: Check) -> Check:
        return replace(old, summary=make(), title=make(), fix=make(), places=(make(), f"{make()}:7"), budget=make())

    judged = replace(
        verdict.judged, runs=(make(), make()), baseline=(make(),), device=make(), torch=make(), site=f"{make()}:3"
    )
    return replace(verdict, checks=tuple(check(c) for c in verdict.checks), judged=judged, cautions=(make(), make()))


def many_failures(count: int) -> Verdict:
    """A verdict in which this many rules fail."""
    verdict = passing_verdict()
    failed = Check(name="rule", kind="rule", status=FAILED, title="rule", summary="a fault", fix="a fix")
    return replace(verdict, checks=tuple(replace(failed, name=f"rule-{i}") for i in range(count)))
