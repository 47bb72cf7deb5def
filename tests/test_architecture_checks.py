"""Each check of the code's shape can fail: it is given a made-up package with one offender and one that only looks like it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture import floors, habits, sizes
from tests.architecture.sources import Package, read_package

Written = Callable[[Mapping[str, str]], Package]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes a package called `house`; a folder is a package, and an empty `__init__` is added where none is given."""

    def write(files: Mapping[str, str]) -> Package:
        for name, text in files.items():
            path = tmp_path / "house" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for folder in {path.parent for path in (tmp_path / "house").rglob("*.py")} | {tmp_path / "house"}:
            (folder / "__init__.py").touch()
        return read_package(tmp_path / "house")

    return write


FLOORS = (("ground",), ("left", "right"), ("top/inner",), ("top",))


def test_a_module_without_a_floor(written: Written) -> None:
    package = written({"ground.py": "", "top/attic.py": "", "cellar.py": "", "left/__init__.py": "x = 1\n"})
    assert floors.without_a_floor(package, FLOORS) == ["cellar.py"]
    assert floors.entries_without_modules(package, FLOORS) == ["right", "top/inner"]


def test_an_init_needs_a_floor_once_it_does_something(written: Written) -> None:
    assert floors.without_a_floor(written({"cellar/__init__.py": '"""Only words."""\n'}), FLOORS) == []
    assert floors.without_a_floor(written({"cellar/__init__.py": "import os\n"}), FLOORS) == ["cellar/__init__.py"]


@pytest.mark.parametrize(
    "climbing",
    [
        "from house.top import roof\n",
        "from house.top.roof import tile\n",
        "import house.top.roof\n",
        "def later():\n    from house.top import roof\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.top import roof\n",
        "HOME = 'house.top.roof'\n",
    ],
)
def test_an_import_of_a_higher_floor(written: Written, climbing: str) -> None:
    package = written({"ground.py": climbing, "top/roof.py": "tile = 1\n", "top/room.py": "from house import ground\n"})
    (line,) = floors.imports_that_climb(package, FLOORS)
    assert line == "ground.py (floor 0) imports house.top.roof (floor 3)"


def test_an_import_of_another_place_on_the_same_floor(written: Written) -> None:
    package = written(
        {"left/a.py": "from house.left import b\n", "left/b.py": "from house.right import c\n", "right/c.py": ""}
    )
    assert floors.imports_that_climb(package, FLOORS) == ["left/b.py (floor 1) imports house.right.c (floor 1)"]


def test_the_longest_entry_is_the_place(written: Written) -> None:
    package = written({"top/inner/a.py": "from house.top import roof\n", "top/roof.py": "", "topping.py": ""})
    assert floors.imports_that_climb(package, FLOORS) == ["top/inner/a.py (floor 2) imports house.top.roof (floor 3)"]
    assert floors.without_a_floor(package, FLOORS) == ["topping.py"]


def test_modules_that_import_each_other(written: Written) -> None:
    package = written(
        {
            "a.py": "from house.b import x\n",
            "b.py": "def f():\n    from house import c\n",
            "c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.a\n",
            "d.py": "from house import a\n",
        }
    )
    assert floors.module_circles(package) == ["house.a - house.b - house.c"]


def test_importing_a_module_runs_the_init_of_its_package(written: Written) -> None:
    package = written(
        {"a.py": "from house.room.quiet import x\n", "room/__init__.py": "import house.a\n", "room/quiet.py": ""}
    )
    assert floors.module_circles(package) == ["house.a - house.room"]


def test_rooms_that_import_each_other_without_a_circle_of_modules(written: Written) -> None:
    package = written(
        {
            "left/a.py": "from house.right import b\n",
            "right/b.py": "",
            "right/c.py": "from house.left import d\n",
            "left/d.py": "",
        }
    )
    assert floors.module_circles(package) == []
    assert floors.room_circles(package) == ["house.left - house.right"]


def test_a_file_beside_folders_is_a_room_of_its_own(written: Written) -> None:
    stage = {
        "stage/run.py": "from house.stage.views import a\n",
        "stage/contract.py": "",
        "stage/views/a.py": "from house.stage import contract\n",
    }
    assert floors.room_circles(written(stage)) == []
    circle = floors.room_circles(written({"stage/contract.py": "from house.stage import run\n"}))
    assert circle == ["house.stage.contract - house.stage.run - house.stage.views"]


def test_a_relative_import(written: Written) -> None:
    package = written({"a.py": "from . import b\n", "b.py": "from house import a\n", "c.py": "from .b import x\n"})
    assert floors.relative_imports(package) == ["a.py", "c.py"]


def test_a_heavy_import_away_from_home(written: Written) -> None:
    package = written(
        {"live/a.py": "import torch.nn\n", "b.py": "def f():\n    from torch import nn\n", "c.py": "import torchless\n"}
    )
    assert floors.imports_away_from_home(package, {"torch": ("live/",)}) == ["b.py imports torch"]
    assert floors.imports_away_from_home(package, {"torch": ("b.py",)}) == ["live/a.py imports torch"]


def test_a_long_file(written: Written) -> None:
    package = written({"a.py": "x = 1\n" * 301, "b.py": "x = 1\n" * 300})
    assert sizes.long_files(package) == ["a.py has 301 lines"]


def test_a_long_function(written: Written) -> None:
    long = "def f():\n" + "    x = 1\n" * 50
    documented = 'def g():\n    """Says\n    much.\n    """\n' + "    x = 1\n" * 47
    package = written(
        {"a.py": long, "b.py": documented, "c.py": f"class C:\n    async {long.replace(chr(10), chr(10) + '    ')}"}
    )
    assert sizes.long_functions(package) == ["a.py: f has 51 lines", "c.py: f has 51 lines"]


def test_a_deeply_nested_function(written: Written) -> None:
    deep = "def f():\n for a in b:\n  while a:\n   if a:\n    match a:\n     case 1: pass\n"
    flat = "def g():\n with a:\n  try:\n   for a in b:\n    if a: pass\n    elif b:\n     if c: pass\n  finally: pass\n"
    package = written({"a.py": deep, "b.py": flat})
    assert sizes.deep_functions(package) == ["a.py: f is nested 4 deep"]


def test_a_function_of_many_parameters(written: Written) -> None:
    package = written(
        {
            "a.py": "def f(a, b, c, d, e, g): ...\n",
            "b.py": "def f(a, b, *, c, d, e, g): ...\n",
            "c.py": "def _f(a, b, *, c, d, e, g): ...\n",
            "d.py": "def f(a, b, c, *, d, e, g): ...\n",
            "e.py": "@verb\ndef f(a, b, c, d, e, g): ...\n",
            "f.py": "class C:\n    def f(self, a, b, c, d, e): ...\n",
        }
    )
    assert sizes.wide_functions(package) == [
        f"{name}.py: {f} takes 6 parameters" for name, f in (("a", "f"), ("c", "_f"), ("d", "f"))
    ]


def test_a_module_that_prints_or_exits(written: Written) -> None:
    package = written(
        {"a.py": "print(1)\n", "b.py": "import sys\nsys.exit(1)\n", "cli.py": "print(1)\n", "c.py": "pprint(1)\n"}
    )
    assert habits.prints_or_exits(package, ("cli.py",)) == ["a.py:1 calls print", "b.py:2 calls sys.exit"]


@pytest.mark.parametrize("caught", ["", " Exception", " BaseException as error", " (OSError, Exception)"])
def test_a_handler_that_catches_everything(written: Written, caught: str) -> None:
    swallowing = f"try: f()\nexcept{caught}:\n    pass\n"
    passing_on = f"try: f()\nexcept{caught}:\n    tidy()\n    raise\n"
    package = written(
        {"a.py": swallowing, "b.py": passing_on, "guard.py": swallowing, "c.py": "try: f()\nexcept OSError: pass\n"}
    )
    assert habits.broad_excepts(package, ("guard.py",)) == ["a.py:2 catches everything"]


def test_a_module_that_does_not_say_what_it_is_for(written: Written) -> None:
    package = written({"a.py": "x = 1\n", "b.py": '"""B."""\n', "c.py": '"""  """\nx = 1\n', "d.py": ""})
    assert habits.without_a_docstring(package) == ["a.py", "c.py"]


def test_a_name_that_says_nothing(written: Written) -> None:
    package = written({"utils.py": "", "common/a.py": "", "commonplace.py": ""})
    assert habits.vague_names(package) == ["common/__init__.py", "common/a.py", "utils.py"]


def test_a_rule_that_is_not_listed(written: Written) -> None:
    package = written(
        {
            "rules/slow_copy.py": "@rule()\ndef f(): ...\n",
            "rules/late_step.py": "@rule()\ndef f(): ...\n",
            "rules/contract.py": "",
        }
    )
    assert habits.unlisted_rules(package, ["slow-copy", "late-step"]) == []
    [never] = habits.unlisted_rules(package, ["slow-copy"])
    assert re.match(r".*late_step\.py never runs: import its rule in .*__init__\.py", never)
    [gone] = habits.unlisted_rules(package, ["slow-copy", "late-step", "gone"])
    assert gone == "gone is listed in RULES, but no gone.py defines it"


@dataclass(frozen=True)
class Named:
    name: str
    code: str


def test_rules_that_clash() -> None:
    sound = [Named("a", "HO001"), Named("b", "HO003"), Named("c", "IN001")]
    assert habits.clashing_rules(sound, {"HO002"}) == []
    wrong = [*sound, Named("c", "IN002"), Named("d", "IN001"), Named("e", "IN004"), Named("f", "HO004")]
    assert habits.clashing_rules(wrong, {"IN004", "IN007"}) == [
        "c is the name of two rules: rename one",
        "IN001 is the code of c and d: IN008 is free",
        "IN004 of e was the code of a rule that is gone: IN008 is free",
        "rules of HO are in two places: list them together",
    ]


def test_documentation_that_is_not_complete() -> None:
    sound = {"": "What is wrong.", "Why": "because", "How": "so"}
    assert habits.wrong_headings({"sound": sound}, ("Why", "How")) == []
    for broken, fault in (
        (sound | {"": " "}, "no first sentence"),
        (sound | {"How": ""}, "nothing under 'How'"),
        ({"": "What.", "How": "so", "Why": "because"}, "headings in another order"),
        ({"": "What.", "Why": "because"}, "no 'How'"),
        (sound | {"More": "x"}, "unknown heading 'More'"),
    ):
        [problem] = habits.wrong_headings({"broken": broken}, ("Why", "How"))
        assert problem == f"broken: its module's docstring has {fault}; the headings are Why, How"


def test_a_renderer_that_is_not_listed(written: Written) -> None:
    package = written(
        {
            "render/json.py": "def render_json(): ...\n",
            "render/page/html.py": "def render_html(): ...\n",
            "render/page/svg.py": "def draw(): ...\n",
        }
    )
    assert habits.unlisted_renderers(package, "render", ["json", "page.html"]) == []
    assert habits.unlisted_renderers(package, "render", ["json"]) == ["page.html"]
    assert habits.unlisted_renderers(package, "render", ["json", "page.html", "pdf"]) == ["pdf"]


def test_a_file_that_mentions_what_is_forbidden(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "notes.md").write_text("see elsewhere/here\n")
    (tmp_path / "picture.png").write_bytes(b"elsewhere/")
    (tmp_path / "sound.py").write_text("else_where = 1\n")
    alone = tmp_path / "alone"
    alone.write_text("elsewhere/")
    assert habits.mentions(
        [tmp_path / "deep", tmp_path / "sound.py", tmp_path / "picture.png", alone], ["elsewhere/"]
    ) == [
        f"{tmp_path / 'deep' / 'notes.md'} mentions elsewhere/",
        f"{alone} mentions elsewhere/",
    ]
