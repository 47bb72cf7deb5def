"""The short name of a kernel: what people call it, without types, arguments and namespaces.

Full names stay in the tables; a C++ template of 300 characters says nothing in the label of a drawn block.
"""

from __future__ import annotations

import re

_BRACKET = re.compile(r"([<>])")
_ARGUMENTS = re.compile(r"\([^()]*\)\s*(?:const)?$")
_WRAPPED = re.compile(r"\bKernel2?<\s*([\w:]+)")  # CUTLASS names a kernel by the template argument of its wrapper
_ANONYMOUS = "(anonymous namespace)::"


def short_name(name: str) -> str:
    """What is left of ``void at::native::vectorized_elementwise_kernel<4, ...>(int, ...)``: "vectorized_elementwise_kernel"."""
    wrapped = _WRAPPED.search(name)
    if wrapped is not None:
        return wrapped.group(1).rpartition("::")[2]
    bare = name.removeprefix("void ").replace(_ANONYMOUS, "").removesuffix(" [clone .kd]")
    bare = _ARGUMENTS.sub("", _without_templates(bare)).partition("<")[0].strip()
    if name != bare and not re.search(r"\s", bare):
        bare = bare.rpartition("::")[2]
    return bare or name


def _without_templates(name: str) -> str:
    """The name without what stands in pairs of angle brackets, however deep they are nested."""
    kept: list[str] = []
    opened: list[int] = []
    for piece in _BRACKET.split(name):
        if piece == ">" and opened:
            del kept[opened.pop() :]
            continue
        if piece == "<":
            opened.append(len(kept))
        kept.append(piece)
    return "".join(kept)
