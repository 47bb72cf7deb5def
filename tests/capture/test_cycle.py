"""A loop that repeats itself is followed without asking the step detector; whatever it does next, the answers are the same."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator

import pytest

from mfu_doctor.capture.loop.cycle import Cycle, Sign, tell
from mfu_doctor.capture.loop.edges import Edge, Source
from mfu_doctor.capture.loop.steps import StepDetector

What = tuple[int, Hashable]


def batch(loader: int = 1, *, training: bool = True) -> list[What]:
    return [(Sign.FETCH, (loader, training, False)), (Sign.FETCHED, (loader, False))]


def end(loader: int = 1) -> list[What]:
    return [(Sign.FETCH, (loader, True, True)), (Sign.FETCHED, (loader, True))]


BACKWARD: list[What] = [(Sign.BACKWARD_BEGINS, None), (Sign.BACKWARD, ("train.py", 3))]
SITELESS: list[What] = [(Sign.BACKWARD_BEGINS, None), (Sign.BACKWARD, None)]


def stepped(optimizer: int = 10) -> list[What]:
    return [(Sign.OPTIMIZER, optimizer)]


STEP = [*batch(), *SITELESS, *stepped()]
LOOPS = {
    "a loader": [STEP] * 40,
    "no loader": [[*SITELESS, *stepped()]] * 40,
    "epochs": [*[STEP] * 30, end(), *[STEP] * 30, end(), *[STEP] * 30],
    "accumulation": [[*(batch() + SITELESS) * 4, *stepped()]] * 40,
    "two optimizers": [[*batch(), *SITELESS, *stepped(), *SITELESS, *stepped(11)]] * 40,
    "two loaders": [[*batch(), *batch(2), *SITELESS, *stepped()]] * 40,
    "no optimizer": [[*batch(), *BACKWARD]] * 40,
    "inference": [batch(training=False)] * 40,
    "step()": [[*batch(), (Sign.EXPLICIT, None)]] * 40,
    "evaluation between the steps": [
        *[STEP] * 20,
        batch(2, training=False) * 9,
        *[STEP] * 20,
        batch(2, training=False) * 9,
    ]
    + [STEP] * 20,
    "evaluation with gradients": [*[STEP] * 20, batch(2) * 9, *[STEP] * 20, batch(2) * 9, *[STEP] * 20],
    "another loader": [*[STEP] * 20, end(), *[[*batch(3), *SITELESS, *stepped()]] * 20],
    "another optimizer": [*[STEP] * 20, *[[*batch(), *SITELESS, *stepped(12)]] * 20],
    "phases": [*[STEP] * 20, *[[*batch(), *SITELESS, *stepped(12)]] * 20, *[STEP] * 20],
    "an optimizer at last": [*[[*batch(), *BACKWARD]] * 20, *[STEP] * 20],
}


def both(signs: Iterator[What] | list[What]) -> tuple[list[int], list[int], int]:
    """Answers with and without the cycle, and how many of them the detector gave in the former."""
    plain, followed = StepDetector(), StepDetector()
    cycle, asked = Cycle(followed), 0
    expected, answers = [], []
    for sign, key in signs:
        expected.append(tell(plain, sign, key))
        edge = cycle.answer(sign, key)
        if edge is None:
            cycle.leave()
            edge, asked = tell(followed, sign, key), asked + 1
            cycle.learn(sign, key, edge)
        answers.append(edge)
    cycle.leave()
    assert followed == plain or plain.source is Source.EXPLICIT
    return answers, expected, asked


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_that_repeats_itself_gets_the_detectors_answers(name: str) -> None:
    signs = [sign for iteration in LOOPS[name] for sign in iteration]
    answers, expected, asked = both(signs)
    assert answers == expected
    assert sum(bool(edge & Edge.BEGIN) for edge in answers) >= 35
    assert asked < len(signs) * 0.6 or name == "inference"  # its loader is counted, as it may turn out to be trained on


def test_a_long_loop_hardly_asks_the_detector() -> None:
    answers, expected, asked = both([*STEP * 2000, *end(), *STEP * 2000])
    assert answers == expected
    assert asked < 100


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_loop_does_next_the_answers_are_the_detectors(seed: int) -> None:
    """Iterations drawn at random, repeated a random number of times, with single signs out of their order among them."""
    draw = random.Random(seed)
    pool = [*batch(), *batch(2), *batch(2, training=False), *end(), *SITELESS, *stepped(), *stepped(11)]

    def signs() -> Iterator[What]:
        for _ in range(60):
            iteration = [draw.choice(pool) for _ in range(draw.randint(1, 6))]
            if draw.random() < 0.5:
                iteration = draw.choice([STEP, [*SITELESS, *stepped()], [*batch(), *batch(2), *SITELESS, *stepped(11)]])
            for _ in range(draw.choice([1, 2, 5, 30])):
                yield from iteration
            if draw.random() < 0.5:
                yield draw.choice(pool)

    answers, expected, _ = both(signs())
    assert answers == expected
