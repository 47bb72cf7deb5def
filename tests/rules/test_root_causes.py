"""Which rule explains which: over the whole catalogue roots come first, nothing explains itself, and every name exists."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import pytest

import mfu_doctor.rules.catalogue as catalogue
from mfu_doctor.rules.catalogue import RULES, find
from mfu_doctor.rules.communication.exposed_communication import exposed_communication
from mfu_doctor.rules.communication.slow_link import slow_link
from mfu_doctor.rules.contract import Finding
from mfu_doctor.rules.host.host_bound import host_bound
from tests.problems import expect_none
from tests.rules.drawing import collective, compute, wait_for_collectives
from tests.rules.judging import found, run_of
from tests.timeline import Timeline

FOLDER = Path(catalogue.__file__).parent
# The device, its clock and its links: no program causes what holds them back.
HARDWARE = {"thermal-throttle", "shared-device", "slow-pcie-link", "slow-link"}
# What every run that waits has in common; a named cause of the waiting must not hide behind them.
NAMED = {
    "host-bound": {
        "tensor-loop", "long-steps", "gc-pause", "data-parallel", "anomaly-mode", "host-computation", "diagnostics-in-step",
    },
    "exposed-communication": {
        "slow-link", "small-buckets", "sync-every-microbatch", "late-gathers", "scalar-collectives", "non-nccl-backend",
    },
    "input-bound": {"cold-workers"},
}  # fmt: skip


def declared(name: str) -> list[str]:
    """Names of rules that a rule's module may give as `symptom_of`, in the order in which it gives them."""
    [path] = FOLDER.rglob(f"{name.replace('-', '_')}.py")
    tree = ast.parse(path.read_text())
    functions = {f.name: f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}
    given = [k.value for k in ast.walk(tree) if isinstance(k, ast.keyword) and k.arg == "symptom_of"]
    called = [
        functions[c.func.id]
        for g in given
        for c in ast.walk(g)
        if isinstance(c, ast.Call) and isinstance(c.func, ast.Name) and c.func.id == "_roots"
    ]
    known = {rule.name for rule in RULES}
    texts = [c.value for g in (*given, *called) for c in ast.walk(g) if isinstance(c, ast.Constant)]
    return [t for t in texts if isinstance(t, str) and (t in known or ("-" in t and " " not in t))]


EXPLAINED = {rule.name: declared(rule.name) for rule in RULES}


def above(name: str, seen: tuple[str, ...] = ()) -> set[str]:
    """Everything that explains a rule, over all links; fails on a circle."""
    circle = " is explained by ".join((*seen, name))
    assert name not in seen, f"{circle}: take one of them out of symptom_of"
    return {root for parent in EXPLAINED[name] for root in (parent, *above(parent, (*seen, name)))}


@pytest.mark.parametrize("name", sorted(EXPLAINED))
def test_what_explains_a_rule_is_a_rule_and_no_circle(name: str) -> None:
    expect_none(
        f"{name}: symptom_of has {parent!r}, another name of {find(parent).name}: give that one"
        for parent in EXPLAINED[name]
        if find(parent).name != parent
    )
    above(name)


@pytest.mark.parametrize("name", sorted(EXPLAINED))
def test_roots_stand_before_what_they_explain(name: str) -> None:
    expect_none(
        f"{name}: {second} explains {first}, so it must stand before it in symptom_of"
        for first, second in pairwise(EXPLAINED[name])
        if second in above(first)
    )


def test_hardware_is_no_symptom_of_a_program() -> None:
    expect_none(
        f"{name} is a fault of the hardware: no {' or '.join(EXPLAINED[name])} explains it"
        for name in sorted(HARDWARE)
        if EXPLAINED[name]
    )


@pytest.mark.parametrize("general", sorted(NAMED))
def test_a_named_cause_does_not_hide_behind_what_it_causes(general: str) -> None:
    expect_none(
        f"{name} is a cause of {general}: take {general} out of what explains it"
        for name in sorted(NAMED[general])
        if general in above(name)
    )


def test_a_slow_link_explains_exposed_communication_and_not_the_reverse() -> None:
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            compute(drawn, 500)
            collective(drawn, 60_000, size=16 << 20)
            wait_for_collectives(drawn)
    run = run_of(drawn)
    assert isinstance(found(slow_link, run), Finding)
    assert found(slow_link, run).symptom_of == ()
    assert found(exposed_communication, run).symptom_of[0] == "slow-link"


def test_a_loop_over_elements_explains_the_launches_that_it_makes() -> None:
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=500, host=20)
            for _ in range(100):
                drawn.op("aten::select", kernel=2, host=20)
                drawn.op("aten::mul", kernel=2, host=20)
    assert "tensor-loop" in found(host_bound, run_of(drawn)).symptom_of
