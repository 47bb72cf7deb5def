"""`--help` with names and whole sentences, and wrong words in one sentence, as all other errors.

Typer prints Python types beside the names, and four lines about a wrong word; how differs between its versions. What is printed
here does not depend on the version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from typer import BadParameter
from typer.core import TyperCommand, TyperGroup

from mfu_doctor.errors import DoctorError

Row = tuple[str, str]

# Typer has it from click or from a copy of its own, by its version, and exports only this kind of it.
_UsageError = cast("type[Exception]", BadParameter.__base__)
_NO_VARIABLE = re.compile(r" \(env var: 'None'\)")  # some versions of typer tell of a variable where there is none
_NEAR = re.compile(r" ?(?:Did you mean |\(Possible options: )(.+)[?)]$")


class Verb(TyperCommand):
    """One verb: its usage line, its arguments and its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after the name of the verb."""
        _leave_text(self.get_params(ctx))
        with _one_sentence(ctx):
            return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line after the name."""
        return ["[OPTIONS]", *(name_of(p) for p in self.get_params(ctx) if p.param_type_name == "argument")]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The sections "Arguments" and "Options"."""
        params = [p for p in self.get_params(ctx) if not getattr(p, "hidden", False)]
        arguments = [p for p in params if p.param_type_name == "argument"]
        _section(formatter, "Arguments", ((name_of(p), _help_of(p)) for p in arguments))
        _section(formatter, "Options", ((name_of(p), _help_of(p)) for p in params if p not in arguments))


class Verbs(TyperGroup):
    """The program itself: the verbs, each with its whole first sentence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words before the verb; without any word, the help is shown by the error that says so."""
        if not args:
            return super().parse_args(ctx, args)
        _leave_text(self.get_params(ctx))
        with _one_sentence(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb."""
        with _one_sentence(ctx):
            return super().resolve_command(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The sections "Commands" and "Options"."""
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, verb) for name, verb in verbs if verb is not None and not verb.hidden]
        _section(formatter, "Commands", ((name, _first_sentence(verb.help)) for name, verb in shown))
        _section(formatter, "Options", ((name_of(p), _help_of(p)) for p in self.get_params(ctx)))


class _Unchecked:
    """Values of a parameter, checked by typer only if they are no text."""

    def __init__(self, checked: Callable[[], Any]) -> None:
        self._checked = checked

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value for the verb: what typer makes of it."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if param.type_descriptor.annotation is str:
            return value
        if param.type_descriptor.annotation == list[str]:
            return list(value)
        return self._checked().coerce(value, param=param, ctx=ctx)


def _leave_text(params: Iterable[Any]) -> None:
    """Leave text, and no value, as they are: newer versions of typer check them by pydantic, which loads as long as numpy."""
    for param in params:
        checked = getattr(param, "get_runtime_param", None)
        if checked is not None:
            param.get_runtime_param = partial(_Unchecked, checked)


def name_of(param: Any) -> str:
    """A parameter as the user writes it: `-o, --output FILE`, `--strict`, `TRACE`."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    names = ", ".join(sorted(param.opts, key=len))
    takes_value = not (param.is_flag or param.count)
    return f"{names} {param.metavar or 'VALUE'}" if takes_value else names


@contextmanager
def _one_sentence(ctx: Any) -> Iterator[None]:
    """A wrong word as an error of ours, with the words that it is like, if there are any."""
    try:
        yield
    except _UsageError as error:
        told = _NO_VARIABLE.sub("", " ".join(error.format_message().split()))  # type: ignore[attr-defined]
        near = _NEAR.search(told)
        remedy = f"did you mean {near[1]}?" if near else f"see {ctx.command_path} --help"
        problem = _NEAR.sub("", told).rstrip(".")
        raise DoctorError(problem[:1].lower() + problem[1:], remedy) from None


def _help_of(param: Any) -> str:
    return param.help or ""


def _first_sentence(text: str | None) -> str:
    first = (text or "").strip().split("\n\n")[0]
    return " ".join(first.split())


def _section(formatter: Any, title: str, rows: Iterable[Row]) -> None:
    found = list(rows)
    if found:
        with formatter.section(title):
            formatter.write_dl(found)
