"""From the stack of the training thread to the line that is worth naming: where its way parts from the way to a training step.

A validation loop is many lines of models and losses; the line that calls it is one. At step edges the way from the script to the
loop is remembered as names. Of a stack seen later the common part is the loop; the first line of the user's code from there on is
the place. All values are text, so nothing of the user's is kept alive.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from types import CodeType, FrameType

from msgspec import Struct

from mfu_doctor.facts.whole_run import TRAINING

_MAX_DEPTH = 200
_PACKAGE = re.compile(r".*/(?:(?:site|dist)-packages|python3[^/]*)/(?P<package>[^/.]+)")
_MODULE = "<module>"

# A function that is named for what it does; the name is the user's (or the library's) own word for it. A name with two such words
# (`_maybe_log_save_evaluate`) says neither.
_NAMED = (
    ("checkpoint", re.compile(r"(^|_)(save|checkpoint|dump)")),
    # Not log_prob or log_softmax, which are logarithms.
    ("logging", re.compile(r"^_*(maybe_)?(log|logs|logging)$|^_?log_(dict|images?|metrics?|scalars?|stats|step)$")),
    ("evaluation", re.compile(r"(^|_)(eval|evaluate|evaluation|validate|validation|test)(_|$)")),
    ("rollout", re.compile(r"(^|_)(rollout|rollouts|collect)(_|$)")),
    ("generation", re.compile(r"^(generate|generate_text)$")),
)
# Files whose functions do one thing.
_FILES = (
    ("data loading", re.compile(r"torch/utils/data/")),
    ("imports", re.compile(r"<frozen importlib")),
    ("environment", re.compile(r"/(gym|gymnasium|stable_baselines3/common/vec_env)/")),
)

_MODEL = re.compile(r"/torch/nn/modules/module\.py$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TORCH = "torch"

# What a line of a training step calls, directly.
_STEP = re.compile(r"/torch/(_tensor\.py|functional\.py|autograd/|amp/|optim/|nn/)")


class Call(Struct, frozen=True):
    """One frame of a stack.

    Attributes:
        file: of its code.
        function: its name.
        line: where it is.
        passes_on: whether it is a decorator's wrapper, which only calls another function.
        owner: the class that it is a method of.
    """

    file: str
    function: str
    line: int
    passes_on: bool = False
    owner: str | None = None

    @property
    def name(self) -> tuple[str, str]:
        """The function, whatever its line."""
        return self.file, self.function


class Where(Struct, frozen=True):
    """A place to name, as in `Elsewhere`."""

    place: str | None = None
    function: str | None = None
    kind: str | None = None
    library: str | None = None


class Line(Struct, frozen=True):
    """The innermost line of the user's code, and what it called: a function, and the package of it."""

    place: str
    function: str | None = None
    library: str | None = None

    @property
    def call(self) -> str | None:
        """The function with its package: "numpy.read_array"; None if none was called, or if it has no package."""
        return f"{self.library}.{self.function}" if self.function and self.library else None


def line_of(
    frame: FrameType | None, own: str, shown: Callable[[str], str | None], root: CodeType | None = None
) -> Line | None:
    """The innermost line of the user's code on a stack, whatever this package adds to the stack; None if there is none.

    A forked process has the stack of the one that started it below the function that it began with, `root`.
    """
    below: list[Call] = []
    for _ in range(_MAX_DEPTH):
        if frame is None or frame.f_code is root:
            return None
        code = frame.f_code
        file = shown(code.co_filename)
        if file is not None:
            called = next((call for call in reversed(below) if _is_told(call)), None)
            place = f"{file}:{frame.f_lineno}"
            return Line(place) if called is None else Line(place, called.function, package_of(called.file))
        if not code.co_filename.startswith(own):
            below.append(_call(frame))
        frame = frame.f_back
    return None


def package_of(filename: str) -> str | None:
    """The package that a file of a library or of Python belongs to: "torch", "json"."""
    match = _PACKAGE.search(filename.replace("\\", "/"))
    return match["package"] if match else None


def stack_of(frame: FrameType | None, own: str) -> tuple[Call, ...]:
    """A stack as text, outermost first, without the frames of this package."""
    calls: list[Call] = []
    while frame is not None and len(calls) < _MAX_DEPTH:
        code = frame.f_code
        if not code.co_filename.startswith(own):
            calls.append(_call(frame))
        frame = frame.f_back
    return tuple(reversed(calls))


def _call(frame: FrameType) -> Call:
    code = frame.f_code
    owner, _, _ = code.co_qualname.rpartition(".")
    method = None if not owner or owner.endswith("<locals>") else owner.rpartition(".")[2]
    return Call(code.co_filename, code.co_name, frame.f_lineno, _passes_on(code), method)


def _passes_on(code: CodeType) -> bool:
    """Whether this is the wrapper of a decorator: a closure that takes all arguments, whatever they are."""
    takes_all = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    return bool(code.co_freevars) and code.co_flags & takes_all == takes_all


def place_of(
    stack: Sequence[Call], ways: Sequence[Sequence[tuple[str, str]]], shown: Callable[[str], str | None]
) -> Where:
    """Where a stack leaves the way to the training steps.

    Args:
        stack: outermost first.
        ways: names of the stacks at step edges, outermost first; none before the first step.
        shown: a file as a report shows it; None for the code of a library.
    """
    common = max((_common(stack, way) for way in ways), default=0)
    inward = stack[max(common - 1, 0) :]
    users = [i for i, call in enumerate(inward) if shown(call.file) is not None]
    kind = _kind(inward[1:] if common else inward)
    if not users or (common and any(_is_by_library(call) for call in inward[1 : users[0]])):
        return _in_library(inward[: users[0]] if users else inward, kind)
    at = users[0] if common else users[-1]
    call = inward[at]
    if common:
        kind = _or_training(kind, inward[at + 1 :])
    within = None if call.function == _MODULE or common else call.function
    return Where(f"{shown(call.file)}:{call.line}", _named(inward[at + 1 :]) or within, kind)


def _is_by_library(call: Call) -> bool:
    """Whether a library does this by itself and has a word for it: what it calls of the user's then is a part of it."""
    return package_of(call.file) not in (None, _TORCH) and _word_of(call) is not None


def _in_library(inward: Sequence[Call], kind: str | None) -> Where:
    """What a library does besides the steps that it makes: its own name for it, since no line of the user's calls it.

    Where it has no word for what it does, and calls a model, a backward pass or an optimizer, that is the training: a step of
    longer samples has no other work in it.
    """
    if kind is None and any(_STEP.search(call.file) for call in inward):
        kind = TRAINING
    by_word = next((call for call in inward[1:] if _is_by_library(call)), None)
    told = by_word or next((call for call in inward[1:] if _is_told(call)), None)
    if told is None:
        return Where(kind=kind)
    return Where(None, f"{told.owner}.{told.function}" if told.owner else told.function, kind, package_of(told.file))


def _common(stack: Sequence[Call], way: Sequence[tuple[str, str]]) -> int:
    for depth, (call, name) in enumerate(zip(stack, way, strict=False)):
        if call.name != name:
            return depth
    return min(len(stack), len(way))


def _or_training(kind: str | None, called: Sequence[Call]) -> str | None:
    """The kind; if nothing tells one, whether the outermost call is one of a training step."""
    direct = next((call for call in called if not call.passes_on), None)
    return TRAINING if kind is None and direct is not None and _STEP.search(direct.file) else kind


def _named(calls: Sequence[Call]) -> str | None:
    """The function that the place calls: the first with a public name, or with one that says what it does."""
    return next((call.function for call in calls if _is_told(call)), None)


def _is_told(call: Call) -> bool:
    name = call.function
    return not call.passes_on and (name[0] not in "_<" or _word(name) is not None)


def _kind(calls: Sequence[Call]) -> str | None:
    """What the calls do, as far as their names or files tell; the outermost word counts.

    What a model calls within itself says nothing about why it is called.
    """
    for call in calls:
        kind = _word_of(call) or next((kind for kind, pattern in _FILES if pattern.search(call.file)), None)
        if kind is not None or _MODEL.search(call.file):
            return kind
    return None


def _word_of(call: Call) -> str | None:
    """The word of a function; of a library's method that has none, the word of its class (`ModelCheckpoint`)."""
    word = _word(call.function)
    if word is not None or call.owner is None or package_of(call.file) in (None, _TORCH):
        return word
    return _word(_CAMEL.sub("_", call.owner))


def _word(function: str) -> str | None:
    kinds = [kind for kind, pattern in _NAMED if pattern.search(function.lower())]
    return kinds[0] if len(kinds) == 1 else None
