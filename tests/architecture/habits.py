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
        m.path.rpartition("/")[2].removesuffix(".py"): m.path
        for m in package.modules.values()
        if re.search(r"^@(job_)?rule\(", m.text, re.MULTILINE)
    }
    files = {name.replace("-", "_"): name for name in listed}
    return [
        *(
            f"{path} never runs: import its rule in {path.rpartition('/')[0]}/__init__.py, and give it a line in RULES"
            for name, path in sorted(written.items())
            if name not in files
        ),
        *(
            f"{files[name]} is listed in RULES, but no {name}.py defines it"
            for name in sorted(files)
            if name not in written
        ),
    ]


def clashing_rules(rules: Sequence[Named], retired: Collection[str]) -> list[str]:
    """Names and codes that stand for two rules, codes of rules that are gone, and rules that stand apart from their family."""
    names, codes = [rule.name for rule in rules], [rule.code for rule in rules]
    owners = {code: [rule.name for rule in rules if rule.code == code] for code in codes}
    families = [family for family, _ in groupby(codes, key=lambda code: code[:2])]
    return [
        *(f"{name} is the name of two rules: rename one" for name in dict.fromkeys(names) if names.count(name) > 1),
        *(
            f"{code} is the code of {' and '.join(of)}: {_free(code, codes, retired)} is free"
            for code, of in owners.items()
            if len(of) > 1
        ),
        *(
            f"{code} of {of[0]} was the code of a rule that is gone: {_free(code, codes, retired)} is free"
            for code, of in owners.items()
            if code in retired
        ),
        *(
            f"rules of {family} are in two places: list them together"
            for family in dict.fromkeys(families)
            if families.count(family) > 1
        ),
    ]


def _free(code: str, used: Iterable[str], retired: Iterable[str]) -> str:
    """The next code of this one's family that no rule ever had."""
    numbers = [int(other[2:]) for other in (*used, *retired) if other[:2] == code[:2] and other[2:].isdecimal()]
    return f"{code[:2]}{max(numbers, default=0) + 1:03}"


def wrong_headings(docs: Mapping[str, Mapping[str, str]], headings: Sequence[str]) -> list[str]:
    """Rules whose documentation (heading -> text, "" for its first sentence) is not complete, or not in this order."""
    found = []
    for name, parts in docs.items():
        faults = [f"no {heading!r}" for heading in headings if heading not in parts]
        faults += [f"nothing under {heading!r}" for heading in parts if heading and not parts[heading].strip()]
        faults += [] if parts.get("", "").strip() else ["no first sentence"]
        known = [heading for heading in parts if heading in headings]
        faults += [] if known == [h for h in headings if h in known] else ["headings in another order"]
        faults += [f"unknown heading {heading!r}" for heading in parts if heading and heading not in headings]
        if faults:
            found.append(
                f"{name}: its module's docstring has {', '.join(faults)}; the headings are {', '.join(headings)}"
            )
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
