"""What a step is where several optimizers take turns: a turn of the innermost loop that all of them step in."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from pathlib import Path

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.utilization.flops import MODEL
from mfu_doctor.capture.loop.edges import Edge
from mfu_doctor.capture.loop.loops import Loop, loops_around
from mfu_doctor.capture.loop.steps import StepDetector
from mfu_doctor.reading import read_trace
from tests.capture.programs import STEP, TRACE, ours, with_and_without
from tests.capture.test_loops_followed import flops_of
from tests.capture.zygote import Zygote

OUTER, INNER = ("gan.py", 1, 2), ("gan.py", 1, 9)
NESTED: dict[Hashable, tuple[Loop, ...]] = {"d": (INNER, OUTER), "g": (OUTER,)}
ONE_LOOP: dict[Hashable, tuple[Loop, ...]] = {"d": (OUTER,), "g": (OUTER,)}


def began(sequence: str, loops: dict[Hashable, tuple[Loop, ...]]) -> tuple[str, StepDetector]:
    """Where steps begin (B), or begin anew because another optimizer counts them now (R), of these optimizer steps."""
    detector = StepDetector()
    detector.turns.loops = dict(loops)
    letters = ""
    for key in sequence:
        edge = detector.optimizer(key)
        letters += "R" if edge & Edge.RESTART else "B" if edge & Edge.BEGIN else "-"
    return letters, detector


def test_a_critic_in_a_loop_of_its_own_is_a_part_of_the_turn() -> None:
    """Three updates of the critic and one of the generator: each critic update once counted as a step, 25 of 75 ms."""
    letters, detector = began("dddg" * 5, NESTED)
    assert letters == "BBB-BBBR---B---B---B"
    assert detector.steps_of_turn == 1
    assert detector.turns.updates(detector.rhythm.anchor) == {"d": 3, "g": 1}


def test_a_generator_in_every_fifth_round_of_one_loop_leaves_the_round_a_step() -> None:
    letters, detector = began("dddddg" * 5, ONE_LOOP)
    assert letters == "BBBBB-" * 5
    assert detector.steps_of_turn == 5
    assert detector.turns.updates(detector.rhythm.anchor) == {"d": 1, "g": 0.2}


def test_where_loops_cannot_be_read_a_step_is_a_turn() -> None:
    assert began("dddg" * 3, {})[0] == "BBB-BBBR---B"


def test_optimizers_that_step_once_each_are_counted_by_the_first() -> None:
    for sequence in ("cat", "dg", "pqrs"):  # SAC; a GAN; an optimizer for each parameter
        letters, detector = began(sequence * 6, NESTED)
        assert letters == ("B" + "-" * (len(sequence) - 1)) * 6
        assert detector.steps_of_turn == 1


def test_a_long_start_does_not_hide_the_turn() -> None:
    letters, _ = began("d" * 100 + "g" + "dddg" * 4, NESTED)
    assert letters.count("R") == 1
    assert letters.endswith("R---B---B---B")


def test_an_optimizer_that_steps_rarely_is_no_turn() -> None:
    assert "R" not in began(("d" * 40 + "g") * 5, NESTED)[0]


def loops_here() -> tuple[Loop, ...]:
    return loops_around(sys._getframe(1), lambda file: file != __file__)


def test_loops_are_told_apart_by_the_bytecode() -> None:
    found: list[tuple[Loop, ...]] = []
    for _ in range(2):
        for _ in range(2):
            found.append(loops_here())
        found.append(loops_here())
    while len(found) < 8:
        found.append(loops_here())
    inner, outer, third = found[0], found[2], found[6]
    assert len(inner) == 2
    assert inner[1:] == outer
    assert found[:3] == found[3:6]
    assert len(third) == 1
    assert third != outer
    assert loops_here() == ()


def test_the_loops_of_callers_are_around_those_of_their_callees() -> None:
    def callee() -> tuple[Loop, ...]:
        found: tuple[Loop, ...] = ()
        for _ in range(2):
            found = loops_here()
        return found

    for _ in range(2):
        around = loops_here()
        inside = callee()
    assert inside[1:] == around


GAN = """
critic = nn.Linear(8, 4)
own = torch.optim.SGD(critic.parameters(), lr=0.1)
def criticise(i):
    critic(torch.full((4, 8), float(i)).sin()).sum().backward()
    own.step()
    own.zero_grad()
"""
CRITIC_STEP = 2 * 2 * 4 * 8 * 4  # forward and the gradient of the weights


def test_a_gan_is_recorded_in_whole_turns(zygote: Zygote, tmp_path: Path) -> None:
    body = f"""{GAN}
with block() as doctor:
    for i in range(40):
        for _ in range(3): criticise(i)
        train(torch.full((4, 8), float(i)).sin(), torch.arange(4))
"""
    ended, _ = with_and_without(zygote, tmp_path, body)
    assert ended.code == 0, ended.err
    written = ours(tmp_path)
    assert [(window.kind, window.steps) for window in written.facts.windows] == [("timing", 5), ("shapes", 1)]
    assert flops_of(tmp_path) == {3 * CRITIC_STEP + STEP}
    assert [(o.class_name, o.per_step) for o in written.facts.optimizers] == [("SGD", 3), ("AdamW", 1)]
    note = str(Run(read_trace(tmp_path / "ours" / TRACE)).steps.note).partition(";")[
        0
    ]  # a busy machine makes slow steps too
    assert note == "a step is 3 updates by SGD (36 parameters) and 1 update by AdamW (212 parameters)"


def test_a_generator_that_steps_in_some_rounds_has_its_flops(zygote: Zygote, tmp_path: Path) -> None:
    """One of three recorded steps holds its work; the one step with shapes once did not, and its FLOPs were lost."""
    body = f"""{GAN}
with block() as doctor:
    for i in range(60):
        criticise(i)
        if i % 3 == 0:
            train(torch.full((4, 8), float(i)).sin(), torch.arange(4))
"""
    ended, _ = with_and_without(zygote, tmp_path, body)
    assert ended.code == 0, ended.err
    written = ours(tmp_path)
    assert [(window.kind, window.steps) for window in written.facts.windows] == [("timing", 7), ("shapes", 3)]
    assert flops_of(tmp_path) == {CRITIC_STEP, CRITIC_STEP + STEP}
    run = Run(read_trace(tmp_path / "ours" / TRACE))
    each = (
        run.flops.tally[1:, ..., MODEL].sum(axis=(1, 2)).tolist()
    )  # the first one is warm-up: what is judged are whole turns
    assert sorted(each) == [CRITIC_STEP] * 4 + [CRITIC_STEP + STEP] * 2
    assert "in one of 3 steps 1 by AdamW (212 parameters)" in (run.steps.note or "")
