"""The compiled core reads a chunk as Python does, or leaves it to Python."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from mfu_doctor.reading.clock import Clock
from mfu_doctor.reading.columns import Columns
from mfu_doctor.reading.memory import MemoryTable
from mfu_doctor.reading.scan import Scanner
from mfu_doctor.reading.values import ArgsTable
from tests.both_ways import difference, needs_core, read
from tests.fuzz.crafted import CRAFTED
from tests.fuzz.mutants import mutant
from tests.fuzz.retold import written
from tests.fuzz.seeds import drawn, seeds
from tests.traces import ROOT

pytestmark = needs_core

_SEED, _DRAWN, _MUTANTS = 19, 40, 400
EVENT = '{"ph": "X", "cat": "kernel", "name": "k", "pid": 1, "tid": 2, "ts": 3.5, "dur": 1, "args": {"stream": 7}}'

# Each is one event, or what it holds; the core is to take them, or not.
TAKEN = {
    "usual": EVENT,
    "no more than its time": '{"ph":"X","ts":1}',
    "escapes in a name": EVENT.replace('"k"', r'"a\\b\"c\u00e9"'),
    "a name in Greek": EVENT.replace('"k"', '"λ"'),
    "identities are texts": EVENT.replace("1,", '"25738",', 1).replace(": 7", ': "stream 9"'),
    "no arguments": EVENT.replace('{"stream": 7}', "null"),
    "nested arguments": EVENT.replace(
        "7}", '7, "Input Dims": [[1, [2]], [], {"a": "\\\\n"}], "x": [true, false, null, 1e-3]}'
    ),
    "of two arguments the last": EVENT.replace('"args"', '"args": {"stream": 3, "device": 1}, "args"'),
    "17 digits and a point": EVENT.replace("3.5", "900719925474.099"),
    "a time since 1970": EVENT.replace("3.5", "1694128201446397.812"),
    "times of two ages": ", ".join(EVENT.replace("3.5", f"{years}128201446397.812") for years in (1694, 1704, 1694)),
    "a whole time since 1970 beside one with decimals": EVENT.replace("3.5", "1694128201446397")
    + ', {"ph": "i", "ts": 1694128201446397.5, "name": "[memory]", "args": {"Device Type": 1}}',
    "a time of 15 digits beside one of 16": f"{EVENT.replace('3.5', '169412820144639.5')}, "
    + EVENT.replace("3.5", "1694128201446397.812"),
    "an instant": EVENT + ', {"ph": "i", "ts": 1, "name": "[memory]", "args": {"Device Type": 1}}',
    "keys nearly those of the event before": ", ".join(
        EVENT.replace(key, other)
        for key, other in (
            ('"ts"', '"tsx": 1, "ts"'),
            ('"ts": ', '"ts":'),
            ('"ts": ', '"ts" :  '),
            ('"ts": ', '"ts":\n\t '),
            ('"dur"', '"due"'),
            ('"stream"', '"streams": 9, "stream"'),
            ('"stream"', '"strean"'),
            ('"stream"', '"External id": 4, "stream"'),
            ('"stream"', '"External ie": 4, "stream"'),
            ('"stream"', '"external id": 5, "stream"'),
            ('"pid"', '"args"'),
            ('"stream"', '"Sequence number": 6, "stream"'),
            ('"stream"', '"Sequence numbe": 6, "stream"'),
        )
        for _ in range(2)
    ).replace('"args": 1, ', '"args": {}, '),
    "keys of an event and of its arguments change places": ", ".join(
        f'{{"ph": "X", "ts": {at}, "args": {{"{one}": 1, "{other}": 2}}, "{other}": 3, "{one}": 4}}'
        for at, (one, other) in enumerate(
            [("device", "dur"), ("dur", "device"), ("device", "dur"), ("ts", "stream")] * 2
        )
    ),
    "more keys than there is room for": ", ".join(
        EVENT.replace('"stream"', ", ".join(f'"{"k" * (at % 19)}{at + of}": {at}' for at in range(50)) + ', "stream"')
        for of in (0, 0, 1)
    ),
    "a phase that is skipped": EVENT + ', {"ph": "M", "name": "process_name", "args": {"name": 1}}',
}
LEFT = {
    "no time": '{"ph": "X"}',
    "a time that is text": EVENT.replace("3.5", '"3.5"'),
    "a time of nothing": EVENT.replace("3.5", "null"),
    "more digits than a float has": EVENT.replace("3.5", "9007199254740993.25"),
    "a time since 1970 with an exponent": EVENT.replace("3.5", "1694128201446397.8e0"),
    "an exponent": EVENT.replace("3.5", "3.5e3"),
    "a point at the end": EVENT.replace("3.5", "3."),
    "a zero before it": EVENT.replace("3.5", "03.5"),
    "a number that would be a code": EVENT.replace("1,", "-2251799813685248,", 1),
    "a process of nothing": EVENT.replace("1,", "null,", 1),
    "a name that is a number": EVENT.replace('"k"', "5"),
    "half a character": EVENT.replace('"k"', r'"\ud800"'),
    "no such escape": EVENT.replace('"k"', r'"\x"'),
    "a control character": EVENT.replace('"k"', '"\x01"'),
    "a key that is escaped": EVENT.replace('"ts"', r'"\u0074s"'),
    "a colon that is missing": EVENT.replace('"ts": ', '"ts"  '),
    "a comma at the end": EVENT.replace("7}", "7,}"),
    "two phases": EVENT.replace('"ph"', '"ph": "X", "ph"'),
    "no phase": EVENT.replace('"ph"', '"hp"'),
    "half of a pair": EVENT + ', {"ph": "E", "ts": 9}',
    "an instant without a name": EVENT + ', {"ph": "i", "ts": 1, "name": 5}',
    "arguments that are a list": EVENT.replace('{"stream": 7}', "[]"),
    "a list in a list in a list": EVENT.replace("7}", '7, "x": ' + "[" * 70 + "]" * 70 + "}"),
    "something after the list": EVENT + "] [",
    "cut off": EVENT[:-2],
}


def taken(chunk: bytes) -> bool:
    clock = Clock()
    clock.look(chunk)
    return Scanner(Columns(len(chunk), clock), ArgsTable(), MemoryTable(clock), clock).scan(chunk) is not None


@pytest.mark.parametrize("events", TAKEN.values(), ids=TAKEN)
def test_what_the_core_takes_it_reads_as_python_does(events: str) -> None:
    assert taken(f"[{events}]".encode())
    assert not difference(document(events))


@pytest.mark.parametrize("events", LEFT.values(), ids=LEFT)
def test_what_is_unusual_is_left_to_python(events: str) -> None:
    assert not taken(f"[{events}]".encode())
    assert not difference(document(events))


def document(events: str) -> bytes:
    """A file of two chunks with these events in the first."""
    return f'{{"traceEvents": [{EVENT}, {events}, {", ".join([EVENT] * 4000)}]}}'.encode()


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_files_are_read_as_by_python(kind: str) -> None:
    assert not difference(CRAFTED[kind]())


def test_drawn_files_and_mutants_are_read_as_by_python() -> None:
    rng, known = random.Random(_SEED), [*seeds(), *map(written, drawn(_SEED, _DRAWN))]
    for data in [*known, *(mutant(rng.choice(known), rng) for _ in range(_MUTANTS))]:
        assert not (found := difference(data)), (found, data[:2000])


def test_threads_read_beside_each_other() -> None:
    """What a scan knows of its chunk is its own: it asks Python about new texts, and other threads go on meanwhile."""
    files = [document(EVENT.replace('"k"', f'"{"k" * number}{number}"')) for number in range(1, 40)]
    alone = [read(data) for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, files)) == alone


def test_bytes_that_are_no_text_are_left_to_python() -> None:
    for place in (b'"k"', b'"kernel"', b'"stream"'):
        chunk = b"[" + EVENT.encode().replace(place, place[:-1] + b'\xff"') + b"]"
        assert not taken(chunk)


def test_every_beginning_of_a_chunk_is_left_to_python() -> None:
    """Nothing is read past the end, wherever that is."""
    chunk = json.dumps(json.loads((ROOT / "tests/fixtures/xpu_2025.json").read_text())["traceEvents"][:40]).encode()
    assert taken(chunk)
    assert not any(taken(chunk[:size]) for size in range(len(chunk)))
