"""Files with a few bytes or values changed: what a full disk, a broken writer or somebody's script makes of a sound one."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

STRANGE: list[Any] = [
    None, True, False, "", "x", "nan", "٣", "12", [], [1], {}, {"a": 1}, [[[]]], [3, [1]], 0, -1, 1.5, -0.0, 2**31, 2**53,
    -(2**51), -(2**52), 2**62, 2**63, -(2**63), 10**30, 1e300, -1e300, 1e308, -1e308, 5e-324, "9" * 30, "9" * 500, "stream 7",
    "GPU 3", "a\u0000b", "\ud800", "\x1b[2J", "x" * 3_000, float("nan"), float("inf"), -float("inf"),
]  # fmt: skip
_CHARACTERS = [
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"0", b"-", b"e", b".", b"\0", b" ", b"\n", b"\r\n", b"\xff",
    b"\xef\xbb\xbf",
]  # fmt: skip
_TEXTS = [
    b"9" * 30, b"1e400", b"1e308", b"null", b"true", b"NaN", b"-Infinity", b"[" * 50, b"]" * 50, b'{"a":' * 50, b" " * 500,
    b'"\\ud800"', b'{"ph":"X"}', b'"ts":1,', b'"ts":-1e14,', b'"dur":4e15,', b'"args":{},', b'"traceEvents":[', b"\x1f\x8b",
]  # fmt: skip
_DEEP = 3_000
_MANY = 20  # values that change places at a time

Change = Callable[[Any, Any], None]  # of what stands in a container under a key
Way = tuple[Any, ...]  # keys and positions that lead to a value of a document


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with a few of them changed, lost, doubled or moved."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if len(out) < 4:
            break
        i, j = sorted((rng.randrange(len(out)), rng.randrange(len(out))))
        j = min(j, i + rng.choice([1, 2, 8, 64, 512]))
        kind = rng.randrange(6)
        if kind == 0:
            out[i] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[i:j]
        elif kind == 2:
            out[i:i] = out[i:j]
        elif kind == 3:
            out[i:j] = rng.choice(_CHARACTERS)
        elif kind == 4:
            out[i:i] = rng.choice(_TEXTS)
        elif rng.randrange(4) == 0:
            del out[j:]
        else:
            out[j:j] = out[i:j] * rng.choice([1, 2, 30])
    return bytes(out)


def recoded(data: bytes, rng: random.Random) -> bytes:
    """The text in another encoding, whole or from somewhere on."""
    text = data.decode("utf-8", "replace")
    name = rng.choice(["utf-16", "utf-16-be", "utf-32", "latin-1", "utf-8-sig"])
    whole = text.encode(name, "replace")
    cut = rng.randrange(len(data) + 1)
    return whole if rng.randrange(2) else data[:cut] + text[cut:].encode(name, "replace")


def places(node: Any, way: Way = ()) -> list[Way]:
    """The way to each value in a JSON document, the document itself left out."""
    keys: Any = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [found for key in keys for found in ((*way, key), *places(node[key], (*way, key)))]


@lru_cache(maxsize=64)
def _parsed(data: bytes) -> tuple[Any, list[Way]]:
    """A sound document and the ways in it: asked for again and again, and never changed."""
    document = json.loads(data)
    return document, places(document)


def _at(document: Any, way: Way) -> Any:
    for step in way:
        document = document[step]
    return document


def _with(document: Any, way: Way, change: Change) -> Any:
    """The document with a change made in what holds the value at `way`; only what leads there is copied."""
    *_, last = way
    changed = node = copy.copy(document)
    for step in way[:-1]:
        node[step] = copy.copy(node[step])
        node = node[step]
    change(node, last)
    return changed


def spoilt(data: bytes, rng: random.Random, count: int = 3) -> bytes:
    """A sound document with strange values at up to `count` places, or without them, or with those of another place."""
    document, ways = _parsed(data)
    for _ in range(rng.randint(1, count)):
        if not ways:
            break
        # what an edit before has removed is no place any more
        with suppress(KeyError, IndexError, TypeError):
            document = _with(document, rng.choice(ways), _strange(_parsed(data)[0], rng.choice(ways), rng))
    return json.dumps(document).encode()


def _strange(sound: Any, other: Way, rng: random.Random) -> Change:
    """A change of one value: it goes, becomes that of another place, a multiple or something strange."""
    kind, factor = rng.randrange(8), rng.choice([-1, 0, 0.5, 2, 1000, 10**6, 2**40])
    strange = rng.choice(STRANGE)

    def change(node: Any, last: Any) -> None:
        if kind == 0:
            del node[last]
        elif kind == 1:
            node[last] = _at(sound, other)
        elif kind == 2 and isinstance(node[last], int | float):
            node[last] = node[last] * factor
        else:
            node[last] = strange

    return change


def _put(value: Any) -> Change:
    return lambda node, last: node.__setitem__(last, value)


def doubled(data: bytes, rng: random.Random) -> bytes:
    """The same text with a key that stands twice in its object."""
    keys = [b'"ts":', b'"dur":', b'"args": {', b'"name":', b'"ph": "X"', b'"traceEvents": [']
    found = [key for key in keys if key in data]
    if not found:
        return data
    key = rng.choice(found)
    at = rng.choice([i for i in range(len(data)) if data.startswith(key, i)]) if len(data) < 50_000 else data.index(key)
    extra = {b'"args": {': b'"args": {},', b'"ph": "X"': b'"ph": "B",', b'"traceEvents": [': b'"traceEvents": [],'}
    return data[:at] + extra.get(key, key + b" 5,") + data[at:]


def deepened(data: bytes, rng: random.Random) -> bytes:
    """One value of a sound document nested so deep that no program follows."""
    document, ways = _parsed(data)
    if not ways:
        return data
    mark = "a value to be replaced"
    document = _with(document, rng.choice(ways), _put(mark))
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    deep = opening * _DEEP + "1" + closing * _DEEP
    return json.dumps(document).replace(json.dumps(mark), deep).encode()


def packed(data: bytes, rng: random.Random) -> bytes:
    """Compressed in one or two parts, then changed, cut, or followed by something else."""
    cut = rng.randrange(len(data) + 1)
    members = [
        gzip.compress(part, 1) for part in rng.choice([(data,), (data[:cut], data[cut:]), (b"\xef\xbb\xbf", data)])
    ]
    between = rng.choice([b"", b"", b"\0" * 512, b"\x1f\x8b", rng.randbytes(40), data[:40]])
    whole = between.join(members) + rng.choice([b"", b"", between, b"\n"])
    return mutated(whole, rng) if rng.randrange(2) else whole[: rng.randint(len(whole) // 2, len(whole))]


def reordered(data: bytes, rng: random.Random) -> bytes:
    """A sound document with the values of many objects changed places: each value can be, and most together cannot."""
    document, ways = _parsed(data)
    by_name: dict[Any, list[Way]] = {}
    for way in ways:
        by_name.setdefault(way[-1], []).append(way)
    named = [found for name, found in by_name.items() if isinstance(name, str) and len(found) > 1]
    for _ in range(min(rng.randint(1, 3), len(named))):
        one = rng.choice(named)
        for to, value_at in zip(rng.sample(one, min(len(one), _MANY)), rng.choices(one, k=_MANY), strict=False):
            with suppress(KeyError, IndexError, TypeError):
                document = _with(document, to, _put(_at(_parsed(data)[0], value_at)))
    return json.dumps(document).encode()


MUTATIONS = (mutated, mutated, mutated, spoilt, spoilt, spoilt, spoilt, recoded, doubled, deepened, packed, reordered)


def mutant(data: bytes, rng: random.Random) -> bytes:
    """A sound file, changed in one of these ways."""
    return rng.choice(MUTATIONS)(data, rng)
