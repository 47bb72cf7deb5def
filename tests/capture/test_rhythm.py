"""Which beat counts the iterations of a loop, which loaders feed it, and whether two steps did the same work."""

from __future__ import annotations

import gc
from collections import Counter

from mfu_doctor.capture.loop.edges import CUT, Edge, Source
from mfu_doctor.capture.loop.feeding import Feeding
from mfu_doctor.capture.loop.identities import Identities
from mfu_doctor.capture.loop.rhythm import Beat, Rhythm
from mfu_doctor.capture.loop.steps import StepDetector
from mfu_doctor.capture.profiler.same_work import differs

TRAIN, EVALUATION, SECOND = 1, 2, 3


def beats(sequence: str, rhythm: Rhythm | None = None) -> str:
    """A for a beat of the anchor, M for a move, o for another one."""
    rhythm = rhythm or Rhythm()
    letters = {Beat.ANCHOR: "A", Beat.MOVED: "M", Beat.OTHER: "o"}
    return "".join(letters[rhythm.beat(key)] for key in sequence)


def test_the_first_one_counts_as_long_as_it_returns() -> None:
    assert beats("dgdgdg") == "AoAoAo"
    assert beats("dggdggdgg") == "AooAooAoo"  # a GAN that steps its generator twice
    assert beats("cccccgcccccg") == "AAAAAoAAAAAo"  # one that steps its critic five times
    assert beats("pqrspqrs") == "AoooAooo"  # an optimizer for each parameter


def test_one_that_does_not_return_is_given_up() -> None:
    assert beats("aaaabbbbbb") == "AAAAooMAAA"  # the next fold


def test_two_that_take_long_turns_do_not_change_for_ever() -> None:
    """Phases of five steps each: after the first return of the former one its turns are known to be that long."""
    assert beats("aaaaabbbbb" * 3).count("M") == 1


def test_what_is_known_to_be_over_is_left_at_once() -> None:
    rhythm = Rhythm()
    beats("aaa", rhythm)
    rhythm.over()
    assert beats("b", rhythm) == "M"


class Thing:
    """Can be referred to weakly."""


def test_an_address_that_is_used_again_is_another_object() -> None:
    identities, numbers = Identities(), []
    for _ in range(5):
        thing = Thing()
        numbers.append(identities.of(thing))
        assert identities.of(thing) == numbers[-1]
        del thing
        gc.collect()
    assert len(set(numbers)) == 5
    assert not any(identities.alive(number) for number in numbers)


def fed(fetches: list[int], feeding: Feeding) -> list[bool]:
    """What a loop of these fetches, each followed by a backward pass, is told."""
    told = []
    for loader in fetches:
        told.append(feeding.fetch(loader, training=True))
        feeding.iterated()
    return told


def test_a_loader_whose_batches_are_not_trained_on_is_a_visitor() -> None:
    feeding = Feeding()
    assert fed([TRAIN, TRAIN], feeding) == [True, True]
    assert [feeding.fetch(EVALUATION, training=True) for _ in range(3)] == [True, False, False]
    assert fed([TRAIN], feeding) == [True]
    assert feeding.trained == {TRAIN}
    assert not feeding.fetch(EVALUATION, training=True)


def test_a_second_loader_that_keeps_step_feeds_the_loop_too() -> None:
    feeding = Feeding()
    for _ in range(3):
        feeding.fetch(TRAIN, training=True)
        feeding.fetch(SECOND, training=True)
        feeding.iterated()
    assert feeding.feeders == feeding.trained == {TRAIN, SECOND}


def test_a_sanity_check_before_the_first_step_feeds_nothing() -> None:
    feeding = Feeding()
    for _ in range(2):
        feeding.fetch(EVALUATION, training=True)
    fed([TRAIN, TRAIN], feeding)
    assert feeding.feeders == feeding.trained == {TRAIN}


def loop(detector: StepDetector, *, evaluates: int = 0) -> list[int]:
    """Edges of one iteration: fetch, backward, optimizer step, and fetches of the evaluation after it."""
    edges = [detector.fetch(TRAIN, training=True, last=False), detector.fetched(TRAIN, exhausted=False)]
    detector.backward_begins()
    edges += [detector.backward(("train.py", 7)), detector.optimizer(1)]
    for _ in range(evaluates):
        edges += [detector.fetch(EVALUATION, training=True, last=False), detector.fetched(EVALUATION, exhausted=False)]
    return edges


def test_evaluation_with_gradients_enabled_is_in_no_step() -> None:
    detector = StepDetector()
    for _ in range(3):
        loop(detector)
    edges = loop(detector, evaluates=4)
    assert edges[4] == CUT  # it may be a new loader of the loop
    assert edges[6::2] == [Edge.VOID | Edge.PAUSE, Edge.PAUSE, Edge.PAUSE]
    assert loop(detector)[0] == Edge.BEGIN
    assert loop(detector, evaluates=2)[4::2] == [Edge.END | Edge.PAUSE, Edge.PAUSE]  # the second time it is known
    assert detector.ended_fetches == 1


def test_an_optimizer_that_will_step_is_waited_for() -> None:
    """32 micro-batches are one step: twenty of them would otherwise be recorded as the steps before the first one."""
    detector = StepDetector()
    edges = []
    for micro in range(64):
        edges.append(detector.fetch(TRAIN, training=True, last=False))
        detector.fetched(TRAIN, exhausted=False)
        detector.backward_begins()
        detector.awaiting = micro == 0 or detector.awaiting
        detector.backward(("train.py", 7))
        if micro % 32 == 31:
            edges.append(detector.optimizer(1))
    assert [edge for edge in edges if edge] == [Edge.VOID | Edge.BEGIN, Edge.HOLD, CUT, Edge.HOLD]
    assert detector.source is Source.OPTIMIZER


def test_without_an_optimizer_a_step_is_a_backward_pass() -> None:
    detector = StepDetector()
    assert [detector.backward(("penalty.py", line)) for line in (8, 9, 8, 9)] == [CUT, Edge.NOTHING, CUT, Edge.NOTHING]
    assert detector.source is Source.BACKWARD


USUAL = Counter({"aten::addmm": 2, "aten::mm": 3})
EVALUATED = Counter({"aten::addmm": 42, "aten::mm": 3})


def test_a_step_that_evaluates_is_unlike_the_timed_steps() -> None:
    assert differs(USUAL, [USUAL] * 5) is None
    assert differs(EVALUATED, [USUAL] * 5) == "aten::addmm 42 times, the timed steps 2 times"
    assert differs(EVALUATED, [USUAL] * 4 + [EVALUATED]) is not None  # one of the timed ones evaluated too
    assert differs(EVALUATED, []) is None


def test_steps_that_vary_are_compared_with_how_much_they_vary() -> None:
    timed = [Counter({"aten::mm": n}) for n in (30, 34, 38, 33, 36)]
    assert differs(Counter({"aten::mm": 35}), timed) is None
    assert differs(Counter({"aten::mm": 90}), timed) is not None
