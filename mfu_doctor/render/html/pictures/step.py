"""One step drawn on one time axis: CPU threads, what the device did, and each stream.

The height of a block with many events shows the busy share of its time. So a row of a hundred thousand kernels is correct
without a hundred thousand rectangles.
"""

from __future__ import annotations

import math
import re

from markupsafe import Markup

from mfu_doctor.analysis.names.short_names import short_name
from mfu_doctor.quantities import counted, duration, percent
from mfu_doctor.render.html.svg import CAUSE_NAMES, WIDTH, line, paint, picture, rect, tag, text
from mfu_doctor.render.words.text import shorten
from mfu_doctor.result.step import Block, Drawing

_LABEL, _LANE, _GAP = 17.0, 30.0, 9.0
_AXIS = 26.0
_MARGIN = 1.0
_CHARACTER = 6.6  # mean width of a character of block text (11 px), user units
_HINT_WIDTH = 1.5  # narrower blocks are too small for a tooltip: one path for all of a kind
_TICKS = 8
_ZEROS = re.compile(r"\.0+(?= )")


def draw_drawing(drawing: Drawing, scope: str) -> Markup:
    """The picture of the median step."""
    height = len(drawing.lanes) * (_LABEL + _LANE + _GAP) + _AXIS
    lanes = [_lane(drawing, index, scope) for index in range(len(drawing.lanes))]
    words = (
        f"Step {drawing.step}, {duration(drawing.step_s)}, in {counted(len(drawing.lanes), 'row')}: "
        f"{', '.join(drawing.lanes)}."
    )
    return picture("One step", words, height, _axis(drawing.step_s, height), *lanes, class_="step")


def kinds_drawn(drawing: Drawing) -> tuple[str, ...]:
    """Kinds of blocks in the picture, for its legend, in order of first appearance."""
    return tuple(dict.fromkeys(block.kind for block in drawing.blocks))


def _lane(drawing: Drawing, index: int, scope: str) -> Markup:
    top = index * (_LABEL + _LANE + _GAP)
    floor = top + _LABEL + _LANE
    name = text(_MARGIN, top + 12, shorten(drawing.lanes[index], 110, middle=True), class_="lane")
    ground = rect(_MARGIN, top + _LABEL, WIDTH - 2 * _MARGIN, _LANE, class_="lane-ground")
    scale = (WIDTH - 2 * _MARGIN) / drawing.step_s
    mine = [block for block in drawing.blocks if block.lane == index]
    wide = [block for block in mine if (block.end_s - block.start_s) * scale >= _HINT_WIDTH]
    thin = [block for block in mine if (block.end_s - block.start_s) * scale < _HINT_WIDTH]
    blocks = [_block(block, floor, drawing.step_s, scope) for block in wide]
    waits = [block for block in thin if block.kind == "host-wait"]  # the only thin ones that lie on others
    under = [block for block in thin if block.kind != "host-wait"]
    return tag("g", name, ground, *_thin(under, floor, scale, scope), *blocks, *_thin(waits, floor, scale, scope))


def _thin(blocks: list[Block], floor: float, scale: float, scope: str) -> list[Markup]:
    """Blocks too thin for a tooltip, as one path for each kind."""
    paths: dict[str, list[str]] = {}
    for block in blocks:
        x, width = _MARGIN + block.start_s * scale, max((block.end_s - block.start_s) * scale, 0.4)
        top = floor - max(_LANE * _filled(block), 3.0)
        paths.setdefault(block.kind, []).append(f"M{x:.1f} {floor:g}V{top:.1f}h{width:.1f}V{floor:g}")
    return [tag("path", d="".join(parts), **paint(kind, scope)) for kind, parts in paths.items()]


def _filled(block: Block) -> float:
    """The share of the block's time that was busy."""
    length = block.end_s - block.start_s
    return 1.0 if block.busy_s is None or length <= 0 else min(block.busy_s / length, 1.0)


def _block(block: Block, floor: float, step_s: float, scope: str) -> Markup:
    scale = (WIDTH - 2 * _MARGIN) / step_s
    x, width = _MARGIN + block.start_s * scale, (block.end_s - block.start_s) * scale
    filled = _filled(block)
    height = max(_LANE * filled, 3.0)
    look = paint(block.kind, scope)
    drawn = rect(x, floor - height, width, height, hint=_hint(block, filled), **look)
    label = shorten(short_name(block.label), 40, middle=True)
    if not label or filled < 0.7 or len(label) * _CHARACTER + 8 > width:
        return drawn
    pill = Markup("")
    if "fill" in look:  # on the patterns of idle time the letters would be hard to read
        pill = rect(x + 4, floor - 22, len(label) * _CHARACTER + 4, 15, rx=2, class_="pill")
    words = text(x + 6, floor - 11, label, class_="block on-idle" if pill else f"block on-{look['class_']}")
    return drawn + pill + words


def _hint(block: Block, filled: float) -> str:
    name = block.label or block.kind
    parts = [shorten(short_name(name), 90, middle=True), duration(block.end_s - block.start_s)]
    if block.kind in CAUSE_NAMES:
        parts.insert(1, CAUSE_NAMES[block.kind])
    if block.count > 1:
        parts.append(f"{counted(block.count, 'event')}, busy {percent(filled, 0)}")
    return ", ".join(parts)


def _axis(step_s: float, height: float) -> Markup:
    spacing = nice_spacing(step_s, _TICKS)
    parts = []
    for index in range(int(step_s / spacing) + 1):
        x = _MARGIN + index * spacing / step_s * (WIDTH - 2 * _MARGIN)
        anchor = "start" if index == 0 else "end" if x > WIDTH - 20 else "middle"
        parts.append(line((x, 0, x, height - _AXIS + 4), class_="grid"))
        parts.append(text(x, height - 7, tick(index * spacing), text_anchor=anchor, class_="tick"))
    return tag("g", *parts)


def tick(seconds: float) -> str:
    """A round time without its zeros: "50 ms"."""
    return _ZEROS.sub("", duration(seconds))


def nice_spacing(span: float, ticks: int) -> float:
    """The distance of axis marks: 1, 2 or 5 times a power of ten, so that `span` has about `ticks` marks."""
    rough = span / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
