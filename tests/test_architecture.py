"""The shape of the code, checked on its syntax trees: imports point down, heavy imports have one home, files stay small.

A rule that only a reviewer remembers is broken within a month; each of these fails by name and lists every offender. The checks
are functions over any package (`tests/architecture`), and `test_architecture_checks.py` shows that each of them can fail.
"""

from __future__ import annotations

from mfu_doctor.cli.explain import sections
from mfu_doctor.render import FORMATS
from mfu_doctor.rules.catalogue import EVERY_RULE, RETIRED
from mfu_doctor.rules.contract import HEADINGS
from tests.architecture import floors, habits, sizes
from tests.architecture.sources import read_package
from tests.problems import expect_none
from tests.traces import ROOT

PACKAGE = read_package(ROOT / "mfu_doctor")

# From the ground up. A module may import its own place and those of lower floors; places on one floor do not know each other.
# The longest entry that a module's path begins with is its place.
FLOORS = (
    ("arrays", "compiled", "facts/whole_run"),
    ("errors", "facts", "json_text", "version"),
    ("files", "trace", "units"),
    ("quantities",),
    ("quantities/parts",),
    ("devices", "reading/dialects"),
    ("flops", "reading", "result"),
    ("capture/boundary", "capture/flops", "capture/patience"),
    ("capture/loop",),
    ("capture/device",),
    ("capture/facts", "capture/profiler"),
    ("capture/destination", "capture/launcher"),
    ("capture/seen",),
    ("capture/samplers",),
    ("capture/capture", "capture/selfcheck"),
    ("capture/export",),
    ("analysis/names",),
    ("analysis/views",),
    ("analysis/replay", "analysis/utilization"),
    ("analysis/run",),
    ("analysis/evidence", "analysis/summary"),
    ("job/summary",),
    ("job/across",),
    ("rules/families", "rules/needs"),
    ("rules/contract",),
    ("rules/job_contract",),
    (
        "rules/communication",
        "rules/device",
        "rules/host",
        "rules/input",
        "rules/kernels",
        "rules/memory",
        "rules/ranks",
        "rules/trace",
    ),
    ("rules",),
    ("diagnosis",),
    ("comparison",),
    ("gate",),
    ("inputs",),
    ("job/rank", "job/join"),
    ("job",),
    ("render/words",),
    ("render/html", "render/terminal"),
    ("render/verdict",),
    ("render",),
    ("annotation", "api", "trial/remedies"),
    ("meter",),
    ("session",),
    ("integrations", "trial"),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
# Heavy or foreign modules and the only files that may import them ("/" at the end: a folder).
HOMES = {
    # beside the recorder only the remedies, which change torch in the process of a trial
    "torch": ("capture/", "trial/remedies/"),
    "pynvml": ("capture/device/nvml.py",),
    "typer": ("cli/main.py", "cli/options.py", "cli/help.py"),
    "rich": ("render/terminal/paint.py",),
    "jinja2": ("render/html/html.py",),
    "pandas": (),
    "torch_tb_profiler": (),
    "tensorboard": (),
    "transformers": ("integrations/huggingface.py",),
    "lightning": ("integrations/lightning.py",),
    "pytorch_lightning": ("integrations/lightning.py",),
    "fsspec": ("reading/remote.py",),
    "distributed": ("job/executors.py",),
}
# What may catch everything, because what it guards must go on: rules, the training loop, device sampling. Each records it. The
# library of a store has exceptions of its own, which become one of ours.
BROAD = ("diagnosis/rule_runner.py", "capture/device/nvml.py", "capture/boundary.py", "reading/remote.py")
# Built from pieces, so that this file does not mention what it forbids.
FORBIDDEN = ("/work/" + "shared", "/." + "library/", "BRIEF" + ".md", "/work/" + "venv", "/work/" + "main")


def test_every_module_has_a_floor_and_every_entry_a_module() -> None:
    expect_none(floors.without_a_floor(PACKAGE, FLOORS))
    expect_none(floors.entries_without_modules(PACKAGE, FLOORS))


def test_imports_point_down() -> None:
    expect_none(floors.imports_that_climb(PACKAGE, FLOORS))


def test_no_modules_import_each_other() -> None:
    expect_none(floors.module_circles(PACKAGE))


def test_no_rooms_import_each_other() -> None:
    expect_none(floors.room_circles(PACKAGE))


def test_imports_are_absolute() -> None:
    expect_none(floors.relative_imports(PACKAGE))


def test_heavy_imports_have_one_home() -> None:
    expect_none(floors.imports_away_from_home(PACKAGE, HOMES))


def test_files_stay_small() -> None:
    expect_none(sizes.long_files(PACKAGE))


def test_functions_stay_small() -> None:
    expect_none(sizes.long_functions(PACKAGE))


def test_decisions_are_not_nested_deep() -> None:
    expect_none(sizes.deep_functions(PACKAGE))


def test_functions_take_few_parameters() -> None:
    expect_none(sizes.wide_functions(PACKAGE))


def test_only_the_command_line_prints_or_exits() -> None:
    expect_none(habits.prints_or_exits(PACKAGE, ("cli/main.py", "cli/streams.py")))


def test_only_boundaries_catch_everything() -> None:
    expect_none(habits.broad_excepts(PACKAGE, BROAD))


def test_every_module_says_what_it_is_for() -> None:
    expect_none(habits.without_a_docstring(PACKAGE))


def test_files_are_named_for_their_ideas() -> None:
    expect_none(habits.vague_names(PACKAGE))


def test_every_rule_file_is_in_the_catalogue() -> None:
    """A rule that is written but not listed never runs."""
    expect_none(habits.unlisted_rules(PACKAGE, [rule.name for rule in EVERY_RULE]))


def test_rules_are_named_once_and_sorted_into_families() -> None:
    expect_none(habits.clashing_rules(EVERY_RULE, RETIRED))
    expect_none([rule.name for rule in EVERY_RULE if rule.caution != rule.code.startswith("TR")])


def test_every_rule_documents_itself_under_the_fixed_headings() -> None:
    expect_none(habits.wrong_headings({rule.name: sections(rule.doc) for rule in EVERY_RULE}, HEADINGS))


def test_every_renderer_is_in_the_catalogue() -> None:
    """A renderer that is written but not listed cannot be chosen, and one that is listed exists."""
    expect_none(habits.unlisted_renderers(PACKAGE, "render", [entry.module for entry in FORMATS]))


def test_nothing_mentions_places_outside_the_project() -> None:
    places = [ROOT / name for name in ("mfu_doctor", "tests", "examples", "benchmarks", ".ci")]
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]  # a worktree has a file there
    expect_none(habits.mentions([*places, *files], FORBIDDEN))
