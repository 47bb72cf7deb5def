"""What a remedy is: the fix of a finding, applied in a fresh process before the unchanged program starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.facts import Facts, PrecisionFacts
from mfu_doctor.result.report import Report

COUNT = r"[1-9]\d*"
"""The settings of a remedy that takes a number of something."""

_SETTING = "{setting}"  # in `words`, `line` and `edits`: stands for the setting


class Numerics(StrEnum):
    """What a remedy may change in the results of the program."""

    SAME = "the same numbers"
    ORDER = "the order of random numbers may change"
    ROUNDING = "the last bits may change"
    CHANGES = "the results change"


class Circumstances(Struct, frozen=True):
    """What is known of the program and the machine: the recording of the unchanged program.

    Attributes:
        report: its report.
        facts: what the recorder wrote into its trace; None if only a saved report is at hand.
    """

    report: Report
    facts: Facts | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the steps ran on an accelerator."""
        return self.report.device.kind == "gpu"

    @property
    def cores(self) -> float | None:
        """Cores that the program may use; None if not known."""
        host = self.facts.host if self.facts is not None else None
        return host.usable_cores if host is not None else None

    @property
    def precision(self) -> PrecisionFacts | None:
        """The number formats of the program; None if not known."""
        return self.facts.precision if self.facts is not None else None

    @property
    def torch(self) -> tuple[int, int] | None:
        """Major and minor version of torch; None if not known."""
        found = re.match(r"(\d+)\.(\d+)", self.report.run.versions.get("torch", ""))
        return (int(found[1]), int(found[2])) if found else None


class Keywords(Struct, frozen=True):
    """The edit that gives keyword arguments to a call: each pair is a name and the expression for it.

    Attributes:
        of: names of what is called, of which one stands at the place of the finding: last names ("DataLoader",), or whole ones
            where the last is too common ("torch.compile",).
        words: the arguments; "{setting}" in an expression stands for the setting.
        most: positional arguments that a call may have: with more, one of `words` may be among them. None: any number, because
            `words` are taken by their names only.
        unless: arguments that exclude these, unless they are False or None.
        libraries: packages of which the program imports one, if only a call of theirs is meant: "lightning". Else torch's is.
        needs: arguments that the call has already, without which these would do nothing, or fail; one that is not among `words`
            is not switched off there.
        against: names of calls in the program beside which these arguments would do nothing.
        places: names of its first arguments, where one of `words` may be given by position.
        on_gpu: whether the call takes them only where there is an accelerator.
        is_function: whether a function is called. Methods of other libraries bear such names too (`accelerator.clip_grad_norm_`),
            so it must begin with a name that the program imports from torch.
    """

    of: tuple[str, ...]
    words: tuple[tuple[str, str], ...]
    most: int | None = None
    unless: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    on_gpu: bool = False
    is_function: bool = False


class AfterImports(Struct, frozen=True):
    """The edit that puts lines after the imports of the program; "{setting}" stands for the setting.

    Attributes:
        lines: statements of the outermost level.
        imports: modules that they need, such as "torch"; one that the program does not import is imported with them.
        unless: names of calls in the program that would undo them.
    """

    lines: tuple[str, ...]
    imports: tuple[str, ...] = ("torch",)
    unless: tuple[str, ...] = ()


Edit: TypeAlias = Keywords | AfterImports


def _no_setting(_: Circumstances) -> None:
    return None


def _as_many(_: str | None) -> float:
    return 1.0


class Remedy(Struct, frozen=True):
    """One fix, as `mfu-doctor try` applies it.

    Attributes:
        name: "fused-optimizer". A remedy with a setting is named with it, "loader-workers=2"; then this is what stands before
            the "=".
        answers: names of the rules whose fix it is.
        words: what it changes, in words: "a fused optimizer", "{setting} workers load the batches".
        line: the line to paste.
        numerics: what it may change in the results.
        why_not: why it does not apply to this program or this machine, in words that can stand after "not tried:"; None where
            it does.
        apply: called in the child process before the program starts, with the setting (None for a remedy without one). It uses
            public switches or narrow patches. What the program sets itself stays, unless the remedy is exactly to undo it; then
            `words` say so.
        settings: the settings that it takes, as a regular expression; None: it takes none.
        setting: the setting to try where the user names none.
        samples: samples of a step in multiples of the unchanged program's, for a setting: 2.0 for twice the batch.
        edits: ways to write it into the program, the first of which is taken whose place is certain; if there is none, only
            `line` is shown.
        one_of: what it is one way of, if a program can go only one of them: "optimizer". Such remedies are not tried together.
    """

    name: str
    answers: tuple[str, ...]
    words: str
    line: str
    numerics: Numerics
    why_not: Callable[[Circumstances], str | None]
    apply: Callable[[str | None], None]
    settings: str | None = None
    setting: Callable[[Circumstances], str | None] = _no_setting
    samples: Callable[[str | None], float] = _as_many
    edits: tuple[Edit, ...] = ()
    one_of: str | None = None


class Chosen(Struct, frozen=True):
    """A remedy with its setting, as it is tried."""

    remedy: Remedy
    setting: str | None = None

    @property
    def name(self) -> str:
        """As the user writes it: "fused-optimizer", "loader-workers=2"."""
        return self.remedy.name if self.setting is None else f"{self.remedy.name}={self.setting}"

    @property
    def words(self) -> str:
        """What it changes, in words."""
        return self._filled(self.remedy.words)

    @property
    def line(self) -> str:
        """The line to paste."""
        return self._filled(self.remedy.line)

    @property
    def samples(self) -> float:
        """Samples of a step in multiples of the unchanged program's."""
        return self.remedy.samples(self.setting)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Ways to write it into the program."""
        return tuple(self._edit(edit) for edit in self.remedy.edits)

    def _edit(self, edit: Edit) -> Edit:
        match edit:
            case Keywords():
                return replace(edit, words=tuple((name, self._filled(value)) for name, value in edit.words))
            case AfterImports():
                return replace(edit, lines=tuple(self._filled(line) for line in edit.lines))

    def apply(self) -> None:
        """Apply it in this process."""
        self.remedy.apply(self.setting)

    def _filled(self, text: str) -> str:
        return text.replace(_SETTING, self.setting or "")
