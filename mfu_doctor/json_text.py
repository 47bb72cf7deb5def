"""JSON of our own values, whatever text is in them: names of files and scripts need not be UTF-8, and JSON must be."""

from __future__ import annotations

import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE = 0xDC00  # Python keeps a byte of a file name that is no UTF-8 as this surrogate plus the byte


def json_bytes(value: object, *, indent: int | None = None) -> bytes:
    """A struct, dict or list as UTF-8 JSON; text that cannot be UTF-8 is escaped as in `readable`."""
    import msgspec

    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_readable(msgspec.to_builtins(value)))
    return data if indent is None else msgspec.json.format(data, indent=indent)


def readable(text: str) -> str:
    r"""The text with every byte and character that cannot be UTF-8 written as an escape: `n\xff.json`."""
    return _SURROGATE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - _BYTE:02x}" if 0x80 <= code - _BYTE <= 0xFF else f"\\u{code:04x}"


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {_readable(key): _readable(item) for key, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list | tuple) else value
