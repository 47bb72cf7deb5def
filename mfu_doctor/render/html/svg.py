"""The elements of every picture: escaped tags, a frame with a label, the colours, and the patterns of idle time.

A picture is inline SVG built only from these. Every attribute and text is escaped here, so that the name of a kernel cannot
become markup. Colours are CSS classes, so that one picture works in light, dark and print.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from mfu_doctor.analysis.names.kernel_names import MATMUL_LIKE
from mfu_doctor.result.bottleneck import meaning
from mfu_doctor.result.step import BUCKETS, IDLE_CAUSES

WIDTH = 1000  # user units of every full-width picture; the page scales it

BUCKET_NAMES = {
    "compute": "compute",
    "communication": "communication, not overlapped",
    "memory_copy": "memory copy, not overlapped",
    "data_loading": "data loading",
    "idle": "idle",
}
CAUSE_NAMES = {cause: meaning(cause) for cause in IDLE_CAUSES}

# Each cause of idle time has its own pattern, so that it is recognized without colour: path data in a tile of 8 x 8.
_STROKES = {
    "launch": "M0 8 8 0M-2 2 2 -2M6 10 10 6",
    "host_compute": "M2 2H6V6H2Z",
    "sync": "M0 0 8 8M-2 6 2 10M6 -2 10 2",
    "allocator": "M0 2H8M0 6H8",
    "compile": "M0 8 8 0M-2 2 2 -2M6 10 10 6M0 0 8 8M-2 6 2 10M6 -2 10 2",
    "gc": "M1 4H3M5 0H7M5 8H7",
    "python": "M2 0V8M6 0V8",
    "rank_wait": "M0 4H8M4 0V8",
    "queue": "M0 4H4",
    "other": "",
}


_UNIT = re.compile(r"(?<=\d) (?=(?:[mnu]?s|%|[kMGTP]?FLOP|[KMGT]iB|B|MHz|W|GB)\b|%)")
_MICRO = re.compile(r"(?<=\d )us\b")


def typeset(words: str) -> str:
    """The words with each number and its unit on one line, and microseconds with their Greek letter."""
    return _UNIT.sub("\u00a0", _MICRO.sub("\u00b5s", words))


def tag(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """One escaped element. In attribute names a last underscore is removed, others become dashes (`class_`, `stroke_width`).

    Attributes that are None are left out. Floats have two decimals, which is finer than a pixel.
    """
    parts = [Markup("<") + name]
    for key, value in attributes.items():
        if value is None:
            continue
        label = key.rstrip("_").replace("_", "-")
        parts.append(Markup(" ") + label + Markup('="') + _value(value) + Markup('"'))
    parts.append(Markup(">"))
    parts.extend(escape(child) for child in children)
    parts.append(Markup("</") + name + Markup(">"))
    return Markup("").join(parts)


def join(*parts: Markup) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def text(x: float, y: float, words: str, **attributes: object) -> Markup:
    """A line of text whose baseline is at `y`."""
    return tag("text", typeset(words), x=x, y=y, **attributes)


def rect(x: float, y: float, width: float, height: float, **attributes: object) -> Markup:
    """A rectangle, with a tooltip if `hint` is given."""
    hint = attributes.pop("hint", None)
    inside = (tag("title", typeset(str(hint))),) if hint else ()
    return tag("rect", *inside, x=x, y=y, width=width, height=height, **attributes)


def line(points: tuple[float, float, float, float], **attributes: object) -> Markup:
    """A straight line from (x1, y1) to (x2, y2)."""
    x1, y1, x2, y2 = points
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def picture(title: str, description: str, height: float, *children: Markup, **options: object) -> Markup:
    """A whole picture with its name, and a description in words for readers who do not see it.

    Args:
        title: what the picture is.
        description: what it shows, in a sentence with the main numbers.
        height: in user units.
        children: what is drawn.
        options: `width` in user units (default `WIDTH`), `class_`.
    """
    width = options.pop("width", WIDTH)
    head = (tag("title", title), tag("desc", typeset(description)))
    box = f"0 0 {width} {_number(height)}"
    return tag("svg", *head, *children, viewBox=box, role="img", **options)


def paint(kind: str, scope: str) -> dict[str, str]:
    """The attributes that give a thing of this kind its colour.

    Args:
        kind: a bucket, an idle cause, a host activity or a kernel class.
        scope: prefix of the ids of this document's patterns (see `patterns`).
    """
    if kind in IDLE_CAUSES or kind == "idle":
        cause = kind if kind in IDLE_CAUSES else "other"
        return {"fill": f"url(#{scope}-{cause})"}
    if kind in MATMUL_LIKE:
        return {"class_": "k-compute"}
    return {"class_": f"k-{kind}" if kind in _CLASSES else "k-compute-2"}


def patterns(scope: str) -> Markup:
    """The patterns of idle time. Each document (a page, or one output of a notebook) has its own `scope`."""
    drawn = join(*(_pattern(scope, cause) for cause in IDLE_CAUSES))
    return tag("svg", tag("defs", drawn), width=0, height=0, aria_hidden="true", focusable="false", class_="defs")


def swatch(kind: str, scope: str) -> Markup:
    """A small square for a legend."""
    square = rect(0.5, 0.5, 15, 11, rx=2, **paint(kind, scope))
    return tag("svg", square, viewBox="0 0 16 12", aria_hidden="true", focusable="false", class_="swatch")


_HOST = ("host", "host-forward", "host-backward", "host-optimizer", "host-wait")
_TINTS = ("compute-2", "compute-3")  # lighter tints of compute: kernels other than matmuls, matmul inefficiency
_CLASSES = frozenset((*BUCKETS, *_HOST, *_TINTS))


def _pattern(scope: str, cause: str) -> Markup:
    ground = tag("rect", width=8, height=8, class_="k-idle")
    marks = tag("path", d=_STROKES[cause], class_="hatch") if _STROKES[cause] else Markup("")
    return tag("pattern", ground, marks, id=f"{scope}-{cause}", width=8, height=8, patternUnits="userSpaceOnUse")


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if value != int(value) else str(int(value))


def _value(value: object) -> Markup:
    return escape(_number(value) if isinstance(value, (int, float)) else str(value))
