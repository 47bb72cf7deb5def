"""Files with a few bytes or values changed: what a full disk, a broken writer or somebody's script makes of a sound one."""

from __future__ import annotations

import json
import random
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


def places(node: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in a JSON document, the document itself left out."""
    keys: Any = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [found for key in keys for found in ((*way, key), *places(node[key], (*way, key)))]


def spoilt(data: bytes, rng: random.Random, count: int = 3) -> bytes:
    """A sound document with strange values at up to `count` places, or without them, or with those of another place."""
    document = json.loads(data)
    for _ in range(rng.randint(1, count)):
        ways = places(document)
        if not ways:
            break
        *way, last = rng.choice(ways)
        node = document
        for step in way:
            node = node[step]
        kind = rng.randrange(8)
        if kind == 0:
            del node[last]
        elif kind == 1:
            *other, key = rng.choice(ways)
            value = document
            for step in other:
                value = value[step]
            node[last] = json.loads(json.dumps(value[key]))
        elif kind == 2 and isinstance(node[last], int | float):
            node[last] = node[last] * rng.choice([-1, 0, 0.5, 2, 1000, 10**6, 2**40])
        else:
            node[last] = rng.choice(STRANGE)
    return json.dumps(document).encode()


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
    document = json.loads(data)
    *way, last = rng.choice(places(document))
    node = document
    for step in way:
        node = node[step]
    mark = "a value to be replaced"
    node[last] = mark
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    deep = opening * _DEEP + "1" + closing * _DEEP
    return json.dumps(document).replace(json.dumps(mark), deep).encode()


MUTATIONS = (mutated, mutated, mutated, spoilt, spoilt, spoilt, spoilt, recoded, doubled, deepened)


def mutant(data: bytes, rng: random.Random) -> bytes:
    """A sound file, changed in one of these ways."""
    return rng.choice(MUTATIONS)(data, rng)
