"""The metadata of a trace: devices, rank, what was recorded, versions, and what mfu-doctor recorded itself.

Only the keys named here are looked at. A profiler's metadata can hold the whole environment of the process, with its
secrets: other keys are skipped by the parser and never become objects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from mfu_doctor.facts import FACTS_KEY, Facts
from mfu_doctor.reading.recorded_facts import MOST_RANKS, read_facts
from mfu_doctor.reading.schema import FAILURES
from mfu_doctor.reading.values import rank_list, readable
from mfu_doctor.trace import DeviceProperties, Distributed, Problem, ProcessGroup, Recorded

T = TypeVar("T")

# Key in the file: (name of the version, how its number is written).
_VERSIONS = ("cuda_runtime_version", "cuda_driver_version", "cupti_version", "hip_runtime_version", "hip_driver_version",
             "roctracer_version")  # fmt: skip
_FLAGS = ("record_shapes", "with_stack", "profile_memory", "with_modules")
_DEVICES = ("deviceProperties", "computeProperties")
KNOWN_KEYS = (*_DEVICES, "distributedInfo", "host_name", "baseTimeNanoseconds", *_FLAGS, *_VERSIONS, FACTS_KEY)

# Fewer threads per SM than this is a number of SMs: torch 2.13's Python exporter mixes them up.
_LEAST_THREADS_PER_SM = 1024
_MOST_SMS = 2**15  # of one device; the largest have some hundreds
_LARGEST = 2**63 - 1
_MOST_SEARCHED = 8  # times the length of a damaged header that may be parsed in search of its keys

_EMPTY = msgspec.Raw(b"")
_Known: Any = msgspec.defstruct(
    "_Known", [(f"key{i}", msgspec.Raw, _EMPTY) for i in range(len(KNOWN_KEYS))],
    rename={f"key{i}": key for i, key in enumerate(KNOWN_KEYS)},
)  # fmt: skip
_Wrapped: Any = msgspec.defstruct("_Wrapped", [("metadata", _Known | None, None)])


class Header(Struct, frozen=True, kw_only=True):
    """The known keys before and after the events; None if the file does not say."""

    devices: tuple[DeviceProperties, ...] = ()
    distributed: Distributed = field(default_factory=Distributed)
    host: str | None = None
    recorded: Recorded = field(default_factory=Recorded)
    versions: tuple[tuple[str, str], ...] = ()
    base_ns: int | None = None
    facts: Facts | None = None
    problems: tuple[Problem, ...] = ()


def read_header(head: bytes, tail: bytes | None) -> Header:
    """Parse what is before and after the events.

    Args:
        head: the file up to and with the bracket that opens the list of events; empty for a bare list.
        tail: what follows the bracket that closes it; None if the file was cut off before.
    """
    if not head:
        return Header()
    values, problems = _known_values(head, tail)
    facts, bad = read_facts(values.get(FACTS_KEY))
    flags = [_known(values.get(flag), bool) for flag in _FLAGS]
    return Header(
        devices=_known(values.get(_DEVICES[0]) or values.get(_DEVICES[1]), _devices) or (),
        distributed=_known(values.get("distributedInfo"), _distributed) or Distributed(),
        host=_known(values.get("host_name"), _text),
        recorded=Recorded(shapes=flags[0], stacks=flags[1], memory=flags[2], modules=flags[3]),
        versions=tuple((key.removesuffix("_version"), _version(key, v)) for key in _VERSIONS if (v := values.get(key))),
        base_ns=_known(values.get("baseTimeNanoseconds"), _int),
        facts=facts,
        problems=(*problems, *bad),
    )


def known_texts(head: bytes, tail: bytes | None) -> dict[str, bytes]:
    """The JSON text of each known key that is present, for a copy of the file without what its header may hide."""
    return _known_values(head, tail)[0] if head else {}


def _known_values(head: bytes, tail: bytes | None) -> tuple[dict[str, bytes], list[Problem]]:
    """The JSON text of each known key that is present."""
    document = head + b"]" + ((tail or b"").strip(b"\0 \t\r\n") or b"}")
    try:
        known = msgspec.json.decode(document, type=_Known)
        wrapped = msgspec.json.decode(document, type=_Wrapped).metadata
    except FAILURES:
        values = _search(head + b"]" + (tail or b""))
        text = f"The file's header is damaged; {len(values)} of its known entries could be read"
        return values, [Problem("invalid-text", text, 1)] if tail is not None else []
    values = {}
    for source in (wrapped, known):  # some tools move the metadata into an object of its own
        for key, raw in zip(KNOWN_KEYS, msgspec.structs.astuple(source) if source else (), strict=bool(source)):
            if bytes(raw) not in (b"", b"null"):
                values[key] = bytes(raw)
    return values, []


def _search(text: bytes) -> dict[str, bytes]:
    """Find known keys in a header that is not JSON: log lines with unescaped quotes broke many."""
    decoded = text.decode("utf-8", "replace")
    decoder = json.JSONDecoder(strict=False)
    values: dict[str, bytes] = {}
    left = _MOST_SEARCHED * len(decoded)
    for key in KNOWN_KEYS:
        for match in re.finditer(rf'"{key}"\s*+:\s*+', decoded):
            if left < 0:
                return values
            try:
                value, end = decoder.raw_decode(decoded, match.end())
                values[key] = json.dumps(value).encode()
            except RecursionError:
                end = len(decoded)
            except ValueError as error:
                end = getattr(error, "pos", len(decoded))
            left -= end - match.start()
    return values


def _known(data: bytes | None, convert: Callable[[Any], T]) -> T | None:
    """A known value, or None if it is absent or not what its key promises."""
    if data is None:
        return None
    try:
        return convert(json.loads(data.decode("utf-8", "replace"), strict=False))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _devices(listed: Any) -> tuple[DeviceProperties, ...]:
    return tuple(_device(i, entry) for i, entry in enumerate(listed) if isinstance(entry, dict))


def _device(position: int, entry: dict[str, Any]) -> DeviceProperties:
    sms, threads = _int(entry.get("numSms")), _int(entry.get("maxThreadsPerMultiprocessor"))
    if sms is None and threads is not None and threads < _LEAST_THREADS_PER_SM:
        sms = threads
    index = _int(entry.get("id"))
    if sms is not None and not 0 < sms <= _MOST_SMS:
        sms = None
    return DeviceProperties(
        index=position if index is None else index,
        name=readable(entry.get("name", "")),
        compute_major=_int(entry.get("computeMajor")),
        compute_minor=_int(entry.get("computeMinor")),
        sms=sms,
        memory_bytes=_positive(entry.get("totalGlobalMem")),
    )


def _distributed(entry: Any) -> Distributed:
    listed = entry.get("pg_config")
    return Distributed(
        _int(entry.get("rank")),
        _world(entry.get("world_size")),
        _text(entry.get("backend")),
        tuple(_group(group) for group in listed if isinstance(group, dict)) if isinstance(listed, list) else (),
    )


def _group(entry: dict[str, Any]) -> ProcessGroup:
    try:
        ranks = rank_list(entry.get("ranks"))
    except (TypeError, ValueError, OverflowError, RecursionError):
        ranks = None
    return ProcessGroup(
        name=readable(entry.get("pg_name", "")),
        description=_text(entry.get("pg_desc")),
        backend=_text(entry.get("backend_config")),
        size=_positive(entry.get("pg_size")),
        ranks=ranks,
    )


def _text(value: Any) -> str | None:
    return None if value is None else readable(value)


def _int(value: Any) -> int | None:
    """An integer of 64 bits, or None; true and false are none."""
    if isinstance(value, bool):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= _LARGEST else None


def _positive(value: Any) -> int | None:
    number = _int(value)
    return number if number is not None and number > 0 else None


def _world(value: Any) -> int | None:
    """The number of ranks of a run that can be."""
    number = _positive(value)
    return number if number is not None and number <= MOST_RANKS else None


def _version(key: str, data: bytes) -> str:
    """A version as people write it: 12040 is CUDA 12.4, 70226015 is HIP 7.2.26015."""
    number = _known(data, _int)
    if number is None:
        return data.decode("utf-8", "replace").strip('"')
    if key.startswith("cuda"):
        return f"{number // 1000}.{number % 1000 // 10}"
    if key.startswith("hip"):
        return f"{number // 10_000_000}.{number // 100_000 % 100}.{number % 100_000}"
    return data.decode("ascii", "replace").strip('"')
