"""What only some files may do, and what every file must say."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Protocol

from tests.architecture.sources import Package

_OUTPUT = ("print", "sys.exit", "exit", "quit", "os._exit", "sys.stdout.write")
_VAGUE = re.compile(r"(utils?|helpers?|common|manager|misc)")
_READ = {".py", ".md", ".toml", ".j2", ".css", ".csv", ".json", ".yml", ""}


class Named(Protocol):
    """What of a rule is looked at here."""

    @property
    def name(self) -> str: ...

    @property
    def code(self) -> str: ...


def prints_or_exits(package: Package, allowed: Collection[str]) -> list[str]:
    """Calls that write to the terminal or end the process, outside of these files."""
    return [
        f"{module.path}:{node.lineno} calls {ast.unparse(node.func)}"
        for module in package.modules.values()
        if module.path not in allowed
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _OUTPUT
    ]


def broad_excepts(package: Package, allowed: Collection[str]) -> list[str]:
    """Handlers that catch everything and do not pass it on, outside of these files."""
    return [
        f"{module.path}:{node.lineno} catches everything"
        for module in package.modules.values()
        if module.path not in allowed
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and not _passes_on(node)
    ]


def _catches_all(node: ast.ExceptHandler) -> bool:
    return node.type is None or bool({"Exception", "BaseException"} & set(re.findall(r"\w+", ast.unparse(node.type))))


def _passes_on(node: ast.ExceptHandler) -> bool:
    """Whether it only tidies up."""
    last = node.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def without_a_docstring(package: Package) -> list[str]:
    """Modules that do not say what they are for."""
    return [
        m.path for m in package.modules.values() if m.text.strip() and not (ast.get_docstring(m.tree) or "").strip()
    ]


def vague_names(package: Package) -> list[str]:
    """Files and folders named for no idea."""
    return [m.path for m in package.modules.values() if any(_VAGUE.fullmatch(part) for part in m.name.split("."))]


def unlisted_rules(package: Package, listed: Iterable[str]) -> list[str]:
    """Files with a rule that no list holds (it never runs), and listed rules without a file of their name."""
    written = {
        m.path.rpartition("/")[2].removesuffix(".py")
        for m in package.modules.values()
        if re.search(r"^@rule\(", m.text, re.MULTILINE)
    }
    return sorted(written ^ {name.replace("-", "_") for name in listed})


def clashing_rules(rules: Sequence[Named], retired: Collection[str]) -> list[str]:
    """Names and codes that stand for two rules, codes of rules that are gone, and rules that stand apart from their family."""
    names, codes = [rule.name for rule in rules], [rule.code for rule in rules]
    twice = [word for words in (names, codes) for word in dict.fromkeys(words) if words.count(word) > 1]
    again = [code for code in codes if code in retired]
    families = [family for family, _ in groupby(codes, key=lambda code: code[:2])]
    return (
        twice + again + [f"{family} in two places" for family in dict.fromkeys(families) if families.count(family) > 1]
    )


def wrong_headings(docs: Mapping[str, Mapping[str, str]], headings: Sequence[str]) -> list[str]:
    """Rules whose documentation (heading -> text, "" for its first sentence) is not complete, or not in this order."""
    found = []
    for name, parts in docs.items():
        if list(parts) != ["", *headings] or not all(text.strip() for text in parts.values()):
            found.append(f"{name}: {[heading for heading, text in parts.items() if text.strip()]}")
    return found


def unlisted_renderers(package: Package, folder: str, listed: Iterable[str]) -> list[str]:
    """Files that define `render_<their name>` and are not in the table of formats, and entries without such a file."""
    defining = {
        m.name.removeprefix(f"{package.name}.{folder}.")
        for m in package.modules.values()
        if m.path.startswith(f"{folder}/")
        and any(isinstance(n, ast.FunctionDef) and n.name == f"render_{m.name.rpartition('.')[2]}" for n in m.tree.body)
    }
    return sorted(defining ^ set(listed))


def mentions(places: Iterable[Path], forbidden: Sequence[str]) -> list[str]:
    """Text files at or below these places that contain a forbidden word."""
    files = [f for place in places for f in (place.rglob("*") if place.is_dir() else [place])]
    found = []
    for file in files:
        if file.is_file() and file.suffix in _READ and "__pycache__" not in file.parts:
            text = file.read_text(encoding="utf-8", errors="replace")
            found += [f"{file} mentions {word}" for word in forbidden if word in text]
    return found
