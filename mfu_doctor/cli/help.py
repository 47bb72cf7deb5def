"""`--help` with names and whole sentences, without the Python types that typer would print beside them.

How typer writes types and braces differs between its versions. What is printed here does not depend on the version.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

Row = tuple[str, str]


class Verb(TyperCommand):
    """One verb: its usage line, its arguments and its options."""

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

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The sections "Commands" and "Options"."""
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        _section(
            formatter, "Commands", ((name, _first_sentence(verb.help)) for name, verb in verbs if verb is not None)
        )
        _section(formatter, "Options", ((name_of(p), _help_of(p)) for p in self.get_params(ctx)))


def name_of(param: Any) -> str:
    """A parameter as the user writes it: `-o, --output FILE`, `--strict`, `TRACE`."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    names = ", ".join(sorted(param.opts, key=len))
    takes_value = not (param.is_flag or param.count)
    return f"{names} {param.metavar or 'VALUE'}" if takes_value else names


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
