"""The inputs of the harness, without end: crafted ones once, then drawn ones, mutants, saved reports and settings."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from tests.fuzz.crafted import inputs
from tests.fuzz.judge import (
    Commands,
    difference,
    faults,
    faults_alone,
    faults_of_others,
    plain_size,
    reading_faults,
    told,
)
from tests.fuzz.mutants import mutant
from tests.fuzz.retold import RETELLINGS, shuffled, written
from tests.fuzz.seeds import drawn, seeds
from tests.fuzz.stored import report_faults, report_text, settings_faults, settings_text

ONLY_READ = "mutated, only read"  # the one kind that does not go through the command line

_ROUND = 20  # documents drawn at a time
_REPORTED = 20  # mutants that are only reported, for each document drawn
_ASKED_MORE = 4  # mutants of which something else is asked
_COMMANDS = 2  # so many things
_ALONE_EVERY = 5  # a document in so many is reported by a process of its own too, and a mutant of it
_SMALL = 20_000  # bytes: a larger crafted file goes through one verb only

Case = tuple[str, bytes, Iterator[str]]  # kind, the file to keep, what is wrong with it


class Cases:
    """All inputs for one seed.

    Args:
        seed: the same inputs come for the same one.
        read: how many mutants of each drawn document are only read.
        folder: where the files are that the command line is given.
    """

    def __init__(self, seed: int, read: int, folder: Path) -> None:
        self._seed, self._read, self._folder = seed, read, folder
        self._rng = random.Random(seed)
        self._sound = seeds()
        self._path, self._other = folder / "input.json", folder / "sound.json"
        self._other.write_bytes(self._sound[-1])

    def all(self, goes_on: Callable[[], bool]) -> Iterator[Case]:
        """One after the other while it goes on; what is wrong is found when it is asked for."""
        yield from self._crafted()
        for round_ in count(self._seed + 1):
            possible = drawn(round_, _ROUND, strange=False)
            for number, (document, can_be) in enumerate(zip(drawn(round_, _ROUND), possible, strict=False)):
                if not goes_on():
                    return
                data = written(document)
                yield from self._otherwise(document, can_be)
                yield from self._mutants(data)
                yield from self._stored()
                if number % _ALONE_EVERY == 0:
                    yield self._case("drawn, alone", data, faults_alone)
                    yield self._case("mutated, alone", self._mutant(data), faults_alone)

    def _case(self, kind: str, data: bytes, judge: Callable[[Path], Iterator[str]]) -> Case:
        """This file, to be judged before the next case is asked for: it has the place of the one before."""
        self._path.write_bytes(data)
        return kind, data, judge(self._path)

    def _reported(self, kind: str, data: bytes, *, thorough: bool = False) -> Case:
        return self._case(kind, data, lambda path: faults(path, plain_size(data) / 1e6, thorough=thorough))

    def _mutant(self, data: bytes) -> bytes:
        return mutant(self._rng.choice([data, *self._sound]), self._rng)

    def _some(self, commands: Commands) -> Commands:
        return tuple(self._rng.sample(commands, _COMMANDS))

    def _crafted(self) -> Iterator[Case]:
        yield from (self._reported("crafted", data, thorough=True) for _, data in inputs())
        small = (data for _, data in inputs() if len(data) < _SMALL)
        yield from (
            self._case("crafted, every verb", data, lambda path: faults_of_others(path, self._other)) for data in small
        )

    def _otherwise(self, document: dict[str, Any], can_be: dict[str, Any]) -> Iterator[Case]:
        """A drawn document, and the same events told otherwise."""
        data, rng = written(document), self._rng
        yield self._reported("drawn", data)
        yield "shuffled", data, self._same(data, written(shuffled(document, rng)))
        yield (
            "told otherwise",
            written(can_be),
            self._same(written(can_be), rng.choice([*RETELLINGS.values()])(can_be, rng)),
        )

    def _same(self, data: bytes, again: bytes) -> Iterator[str]:
        if found := difference(told(data, self._path), told(again, self._path)):
            yield f"another report: {found}"

    def _mutants(self, data: bytes) -> Iterator[Case]:
        for _ in range(_REPORTED):
            yield self._reported("mutated", self._mutant(data))
        yield self._reported("mutated, every output", self._mutant(data), thorough=True)
        for _ in range(_ASKED_MORE):
            yield self._case(
                "mutated, other verbs", self._mutant(data), lambda path: faults_of_others(path, self._other, self._some)
            )
        for _ in range(self._read):
            text = self._mutant(data)
            yield ONLY_READ, text, reading_faults(text)

    def _stored(self) -> Iterator[Case]:
        text, suffix = report_text(self._rng)
        stored = self._folder / f"stored{suffix}"
        stored.write_bytes(text)
        yield "saved report", text, report_faults(stored)
        text = settings_text(self._rng)
        yield "settings", text, settings_faults(text, self._folder / "project")
