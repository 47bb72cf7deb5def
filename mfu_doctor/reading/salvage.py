"""Damaged events: the kinds of damage found in real traces, and how each is repaired before an event is dropped.

A part of the file that does not parse is cut into its events. Halves that parse are kept as they are, so that only the few
damaged events take time. Every kind of damage here comes from a public issue of pytorch or kineto: names with unescaped quotes,
bare inf and nan, backslashes of Windows paths, control characters, bytes that are not UTF-8.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from msgspec import Struct

from mfu_doctor.reading.schema import EVENTS, FAILURES, KNOWN_PHASES, LIST

_KEYS = "ph|cat|name|pid|tid|ts|dur|args|id|bp|s"
# Every pattern takes time in proportion to the text: what repeats is possessive, or begins at a mark of its own.
_BETWEEN = re.compile(rf'\}}\s*+,\s*+(?=\{{\s*+"(?:{_KEYS})"\s*+:)'.encode())
_LIST_END = re.compile(rb"(?<=\})[\s,]*+\]\Z")
_STRING_OR_BARE = re.compile(
    r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[-+]?\b(?:inf(?:inity)?|nan|N/A)(?![\w"])', re.IGNORECASE | re.DOTALL
)
_NAME = re.compile(r'"name"\s*+:\s*+"')
_NAME_END = re.compile(rf'"\s*+(?:,\s*+"(?:{_KEYS})"\s*+:|\}})')
_QUOTE = re.compile(r'(?<!\\)"')
_BAD_ESCAPE = re.compile(r'\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})')
_TRAILING_COMMA = re.compile(r",(\s*+[}\]])")
_ARGS = re.compile(r'"args"\s*+:\s*+\{')
_ID_ARGUMENT = re.compile(
    r'"(correlation|External id|external id|stream|device|Sequence number)"\s*+:\s*+(-?[0-9]{1,18})(?![0-9])'
)
_LONGEST_MENDED = 1 << 20  # bytes: a damaged piece that is longer is no event
_TYPED = ("ts", "dur", "name", "cat", "pid", "tid", "args")
_SUSPECT = re.compile(rb"[:,\[]\s*[-+]?(?:inf|nan|N/A)|[\x00-\x08\x0b\x0c\x0e-\x1f]", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class Damage(Struct):
    """What was lost or changed so far, counted."""

    dropped: int = 0  # events given up
    repaired: int = 0  # events kept after mending them
    bad_text: int = 0  # bytes replaced: not UTF-8, or control characters


def split_events(chunk: bytes, damage: Damage) -> list[bytes]:
    """The events of a list that does not decode, each with its braces."""
    try:
        return [bytes(raw) for raw in LIST.decode(chunk)]
    except FAILURES:
        pass  # not JSON: cut where the next event seems to begin
    damage.bad_text += chunk.count(b"\0")
    chunk = chunk.replace(b"\0", b" ")  # blocks that a crash left unwritten, also between events
    body = _LIST_END.sub(b"", chunk.strip().removeprefix(b"["))
    cuts = [match.start() + 1 for match in _BETWEEN.finditer(body)]
    pieces = [body[i:j].strip(b", \t\r\n") for i, j in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return [piece for piece in pieces if piece]


def mend(pieces: list[bytes], damage: Damage) -> bytes:
    """A JSON list of the events that could be read or repaired; counts the others in `damage`."""
    looked_at = [_mend_one(piece, damage) if _SUSPECT.search(piece) else piece for piece in pieces]
    kept = _mend([piece for piece in looked_at if piece is not None], damage)
    return b"[" + b",".join(kept) + b"]"


def is_event(piece: bytes) -> bool:
    """Whether this is one event that the decoder accepts."""
    return _decodes([piece])


def _decodes(pieces: list[bytes]) -> bool:
    try:
        EVENTS.decode(b"[" + b",".join(pieces) + b"]")
    except FAILURES:
        return False
    return True


def _mend(pieces: list[bytes], damage: Damage) -> list[bytes]:
    """The pieces that decode, unchanged, and the others mended or left out."""
    if _decodes(pieces):
        return pieces
    if len(pieces) > 1:
        half = len(pieces) // 2
        return _mend(pieces[:half], damage) + _mend(pieces[half:], damage)
    event = _mend_one(pieces[0], damage)
    return [] if event is None else [event]


def _mend_one(piece: bytes, damage: Damage) -> bytes | None:
    """One event as strict JSON in the types the decoder knows, or None."""
    if _decodes([piece]):
        return piece
    if len(piece) > _LONGEST_MENDED:
        damage.dropped += 1
        return None
    text, replaced = _text(piece)
    for attempt, fix in enumerate(_FIXES):
        try:
            event = json.loads(fix(text), strict=False, parse_constant=_refuse)
        except (ValueError, RecursionError):
            continue
        accepted = _accepted(event)
        if accepted is None:
            break
        damage.bad_text += replaced
        is_ours = accepted["ph"] == event["ph"]
        damage.repaired += is_ours and (attempt > 0 or accepted != event)
        return json.dumps(accepted).encode()
    damage.dropped += 1
    return None


def _text(piece: bytes) -> tuple[str, int]:
    """The event as text, and how many bytes of it were not text."""
    clean, controls = _CONTROL.subn(b" ", piece)
    text = clean.decode("utf-8", "replace")
    return text, controls + text.count("\ufffd") - clean.count("\ufffd".encode())


def _as_is(text: str) -> str:
    return text.rstrip(", \t\r\n")


def _bare_words(text: str) -> str:
    """Null for inf, nan and N/A outside strings."""
    return _STRING_OR_BARE.sub(lambda m: m.group() if m.group().startswith('"') else "null", _as_is(text))


def _quotes(text: str) -> str:
    """Escape the quotes inside the name: it ends where a known key follows."""
    escaped = _BAD_ESCAPE.sub(r"\\\\", _as_is(text))
    begin = _NAME.search(escaped)
    end = begin and _NAME_END.search(escaped, begin.end())
    if begin is None or end is None:
        return escaped
    name = _QUOTE.sub(r'\\"', escaped[begin.end() : end.start()])
    return escaped[: begin.end()] + name + escaped[end.start() :]


def _both(text: str) -> str:
    return _TRAILING_COMMA.sub(r"\1", _bare_words(_quotes(text)))


def _without_args(text: str) -> str:
    """The event without its arguments but for the ids that link it to others."""
    ids = ", ".join(f'"{key}": {value}' for key, value in _ID_ARGUMENT.findall(text))
    mended = _both(text)
    begin = _ARGS.search(mended)
    return mended if begin is None else mended[: begin.start()].rstrip(", \t\r\n") + f', "args": {{{ids}}}}}'


_FIXES = (_as_is, _bare_words, _quotes, _both, _without_args)


def _refuse(word: str) -> None:
    """Not JSON, although Python reads it: NaN, Infinity, -Infinity."""
    raise ValueError(word)


def _accepted(event: Any) -> dict[str, Any] | None:
    """The event in the types the decoder accepts; None if it is no event or has no usable time."""
    if not isinstance(event, dict) or not isinstance(event.get("ph"), str):
        return None
    if event["ph"] not in KNOWN_PHASES:
        return {"ph": "M"}  # a phase that we do not know: nothing that we read
    known = {key: value for key, value in event.items() if key not in _TYPED}
    times = {key: _finite(event[key]) for key in ("ts", "dur") if key in event}
    if None in times.values():
        return None
    known |= times
    known |= {key: str(event[key]) for key in ("name", "cat") if event.get(key) is not None}
    known |= {key: _id(event[key]) for key in ("pid", "tid") if key in event}
    if isinstance(args := event.get("args"), dict):
        known["args"] = args
    for candidate in (known, known | {"args": {}}):
        if _decodes([json.dumps(candidate).encode()]):
            return candidate
    return None


def _finite(value: Any) -> float | None:
    """A number that is one, also in quotes, but not true or false."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _id(value: Any) -> float | str:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
