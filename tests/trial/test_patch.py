"""Fixes written into a program: where their place is certain, and nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from mfu_doctor.trial.patch import Patch, patch_of
from mfu_doctor.trial.remedies.catalogue import remedy_named
from mfu_doctor.trial.remedies.remedy import AfterImports, Chosen, Edit, Keywords
from tests.trial.drawn import fix

WORKERS = Keywords(("DataLoader",), (("num_workers", "{setting}"), ("persistent_workers", "True")))
FUSED = Keywords(("AdamW", "SGD"), (("fused", "True"),))
TF32 = AfterImports(('torch.set_float32_matmul_precision("high")',))


def edit(kind: Edit, setting: str | None = None) -> Chosen:
    return Chosen(replace(fix("it").remedy, edits=(kind,), line="by hand"), setting)


def patched(tmp_path: Path, source: str, chosen: Chosen, place: str | None = None) -> str | None:
    """The program after the diff, applied by the usual tool; None if its place is not certain."""
    script = tmp_path / "train.py"
    script.write_text(source)
    patch = patch_of([(chosen, place)], script)
    assert script.read_text() == source
    if not patch.diff:
        assert patch.by_hand == (chosen.line,)
        return None
    subprocess.run(["patch", "-s", str(script)], input=patch.diff, text=True, check=True)
    return script.read_text()


@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("l = DataLoader(d)\n", "l = DataLoader(d, num_workers=2, persistent_workers=True)\n"),
        ("l = DataLoader()", "l = DataLoader(num_workers=2, persistent_workers=True)"),
        ("l = data.DataLoader(d, num_workers=0)\n", "l = data.DataLoader(d, num_workers=2, persistent_workers=True)\n"),
        (
            "l = DataLoader(\n    d,\n    shuffle=True,\n)\n",
            "l = DataLoader(\n    d,\n    shuffle=True, num_workers=2, persistent_workers=True,\n)\n",
        ),
        (
            "l = DataLoader(\n    d,\n    shuffle=(True),  # reshuffle\n)\n",
            "l = DataLoader(\n    d,\n    shuffle=(True), num_workers=2, persistent_workers=True,  # reshuffle\n)\n",
        ),
        (
            "l = DataLoader(  # of images\n    d  # all, none left out\n)\n",
            "l = DataLoader(  # of images\n    d, num_workers=2, persistent_workers=True  # all, none left out\n)\n",
        ),
        (
            "name = 'Größe'; l = DataLoader(d)\n",
            "name = 'Größe'; l = DataLoader(d, num_workers=2, persistent_workers=True)\n",
        ),
    ],
)
def test_arguments_are_added_or_replaced(tmp_path: Path, source: str, after: str) -> None:
    assert patched(tmp_path, source, edit(WORKERS, "2")) == after


@pytest.mark.parametrize(
    "source",
    [
        "l = DataLoader(d, num_workers=args.workers)\n",
        "l = DataLoader(d, **options)\n",
        "a, b = DataLoader(d), DataLoader(e)\n",
        "l = make_loader()\n",
        "l = DataLoader(d\n",
        "l = DataLoader(i for i in d)\n",
        "l = DataLoader((d))\n",
    ],
)
def test_what_is_not_certain_is_left_to_the_user(tmp_path: Path, source: str) -> None:
    assert patched(tmp_path, source, edit(WORKERS, "2")) is None


@pytest.mark.parametrize(
    ("keywords", "source"),
    [
        (replace(FUSED, unless=("foreach",)), "o = AdamW(p, foreach=True)\n"),
        (replace(FUSED, unless=("foreach",)), "o = AdamW(p, foreach=args.foreach)\n"),
        (replace(FUSED, most=1), "o = AdamW(p, 0.1)\n"),
        (replace(FUSED, most=1), "o = AdamW(*given)\n"),
        (replace(FUSED, of=("torch.compile",)), "o = re.compile(p)\n"),
    ],
)
def test_a_call_that_would_not_take_the_argument_is_left(tmp_path: Path, keywords: Keywords, source: str) -> None:
    assert patched(tmp_path, source, edit(keywords)) is None


@pytest.mark.parametrize(
    ("keywords", "source"),
    [
        (replace(FUSED, unless=("foreach",)), "o = AdamW(p, foreach=None)\n"),
        (replace(FUSED, most=1), "o = AdamW(p)\n"),
        (FUSED, "o = AdamW(*given)\n"),
        (replace(FUSED, of=("torch.compile",), is_function=True), "import torch\no = torch.compile(p)\n"),
    ],
)
def test_a_call_that_takes_the_argument_gets_it(tmp_path: Path, keywords: Keywords, source: str) -> None:
    assert patched(tmp_path, source, edit(keywords)) == source.replace(")\n", ", fused=True)\n")


def test_the_place_of_the_finding_chooses_among_several(tmp_path: Path) -> None:
    source = "a = AdamW(p)\nb = AdamW(q)\n"
    assert patched(tmp_path, source, edit(FUSED), "train.py:2") == "a = AdamW(p)\nb = AdamW(q, fused=True)\n"
    assert patched(tmp_path, source, edit(FUSED), "other.py:2") is None


TORCH_LOADER = "from torch.utils.data import DataLoader\n"
VAL = "val = DataLoader(v)\n"
WORKERS_4 = "loader-workers=4"
AT_5 = (WORKERS_4, "train.py:5")
HF = "from transformers import TrainingArguments\n"
BOTH = f"{HF}{TORCH_LOADER}args = TrainingArguments('x')\nloader = DataLoader(data)\n"


def test_of_several_ways_the_one_at_the_finding_is_taken(tmp_path: Path) -> None:
    """A loop of the program's own loads from the DataLoader; the arguments of a trainer are for other things."""
    fixed = patched(tmp_path, BOTH, remedy_named("loader-workers=4"), "train.py:4")
    assert fixed == BOTH.replace("(data)", "(data, num_workers=4, persistent_workers=True)")
    assert patched(tmp_path, BOTH, remedy_named("loader-workers=4")) is None


@pytest.mark.parametrize(
    ("source", "name", "place"),
    [
        (f"from data import loader\n{TORCH_LOADER}val = DataLoader(d)\n", "loader-workers=4", "data.py:7"),
        (f"from lib.train import make\n{TORCH_LOADER}val = DataLoader(d)\n", "loader-workers=4", "lib/train.py:3"),
        (
            f"from data import train\n{TORCH_LOADER}val = DataLoader(d)\nfor x in tqdm(train):\n    pass\n",
            "loader-workers=4",
            "train.py:4",
        ),
        (
            f"from .data import train\n{TORCH_LOADER}val = DataLoader(d)\nfor x in train:\n    pass\n",
            "loader-workers=4",
            "train.py:4",
        ),
        (f"from data import make\n{TORCH_LOADER}train = make()\n{VAL}for x in train:\n    pass\n", *AT_5),
        (
            f"{TORCH_LOADER}def fit(loader):\n    for x in loader:\n        pass\n{VAL}fit(make())\n",
            WORKERS_4,
            "train.py:3",
        ),
        (
            f"from pyg import NeighborLoader\n{TORCH_LOADER}train = NeighborLoader(g)\n{VAL}for x in train:\n    pass\n",
            *AT_5,
        ),
        (f"import data\n{TORCH_LOADER}it = iter(data.train)\n{VAL}x = next(it)\n", *AT_5),
        (
            f"{TORCH_LOADER}train = DataLoader(t, **options)\nval = DataLoader(v, num_workers=2)\nfor x in train:\n    pass\n",
            "persistent-workers",
            "train.py:4",
        ),
        (
            f"{TORCH_LOADER}train = DataLoader(t, **options)\nval = DataLoader(v, num_workers=2)\n",
            "persistent-workers",
            None,
        ),
        (
            f"from data import make\n{TORCH_LOADER}train = make()\n{VAL}for x in train:\n    x = 1\n    x = x.to(0)\n",
            "pin-memory",
            "train.py:7",
        ),
        (f"from data import make\n{TORCH_LOADER}{VAL}for x in make():\n    loss(x).backward()\n", WORKERS_4, None),
        (
            f"{TORCH_LOADER}it = iter(make())\n{VAL}for step in range(9):\n    x = next(it)\n    x = x.to(0)\n",
            "pin-memory",
            "train.py:6",
        ),
        (f"{TORCH_LOADER}{VAL}it = iter(make())\nwhile True:\n    loss(next(it)).backward()\n", WORKERS_4, None),
        (f"{TORCH_LOADER}{VAL}trainer.fit(model, make(), val)\n", WORKERS_4, "train.py:3"),
        (f"{TORCH_LOADER}{VAL}trainer.fit(model, train_dataloaders=make())\n", WORKERS_4, "train.py:3"),
        (
            f"{TORCH_LOADER}l = DataLoader(v)\ndef a(l):\n    def b():\n        for x in l:\n            pass\na(make())\n",
            WORKERS_4,
            "train.py:5",
        ),
        ("import torch\ntorch.autograd.set_detect_anomaly(args.debug)\n", "anomaly-off", None),
        ("import torch\ntorch.autograd.set_detect_anomaly(False)\n", "anomaly-off", None),
        (
            "import torch\ntorch.autograd.set_detect_anomaly(True)\nwith torch.autograd.detect_anomaly():\n    step()\n",
            "anomaly-off",
            None,
        ),
        ("import torch\ntorch.set_num_threads(*given)\n", "threads=2", None),
        ("o.zero_grad(keep)\n", "zero-grad-to-none", None),
        ("accelerator.clip_grad_norm_(model.parameters(), 1.0)\n", "foreach-clipping", "train.py:1"),
        ("import torch\nmodel.clip_grad_norm_(1.0)\n", "foreach-clipping", None),
        ("import fsdp\nfsdp.clip_grad_norm_(1.0)\n", "foreach-clipping", None),
        ("engine.init_process_group()\n", "nccl-backend", None),
        ("engine.zero_grad()\n", "zero-grad-to-none", "train.py:1"),
        ("from bitsandbytes.optim import AdamW\no = AdamW(p)\n", "fused-optimizer", None),
        ("import bitsandbytes as bnb\no = bnb.optim.AdamW(p)\n", "fused-optimizer", "train.py:2"),
        ("class AdamW:\n    pass\no = AdamW(p)\n", "fused-optimizer", None),
        (f"{HF}model.gradient_checkpointing_enable()\na = TrainingArguments('x')\n", "no-checkpointing", None),
        (
            f"{HF}model.gradient_checkpointing_enable()\na = TrainingArguments('x', gradient_checkpointing=True)\n",
            "no-checkpointing",
            None,
        ),
        (f"{HF}a = TrainingArguments('x')\n", "no-checkpointing", None),
        ("import lightning as L\nt = L.Trainer()\n", "anomaly-off", None),
        (f"{TORCH_LOADER}val = DataLoader(d)\n", "persistent-workers", None),
        (f"{TORCH_LOADER}val = DataLoader(d, num_workers=0)\n", "prefetch-factor=4", None),
        ("if True:\n    import torch\n", "tf32", None),
        ('import torch; text = """\n"""\n', "tf32", None),
    ],
)
def test_what_would_do_nothing_or_stop_the_program_is_left(
    tmp_path: Path, source: str, name: str, place: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "train.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert patched(tmp_path, source, remedy_named(name), place) is None


@pytest.mark.parametrize(
    ("source", "name", "old", "new"),
    [
        (f"{HF}a = TrainingArguments('x', gradient_checkpointing=True)\n", "no-checkpointing", "=True", "=False"),
        (
            f"{TORCH_LOADER}l = DataLoader(d, num_workers=n)\n",
            "persistent-workers",
            "=n",
            "=n, persistent_workers=True",
        ),
        ("import torch\ntorch.autograd.set_detect_anomaly(True)\n", "anomaly-off", "True", "False"),
        ("import torch\nwith torch.autograd.set_detect_anomaly(mode=True): pass\n", "anomaly-off", "True", "False"),
        ("import torch\ntorch.set_num_threads(1)\n", "threads=2", "1", "2"),
        ("o.zero_grad(False)\n", "zero-grad-to-none", "False", "True"),
        ("o.zero_grad(set_to_none=False)\n", "zero-grad-to-none", "False", "True"),
        ("import torch.optim as optim\no = optim.AdamW(p)\n", "fused-optimizer", "(p", "(p, fused=True"),
    ],
)
def test_what_does_something_is_written(tmp_path: Path, source: str, name: str, old: str, new: str) -> None:
    assert patched(tmp_path, source, remedy_named(name)) == source.replace(old, new)


def test_a_loop_around_the_finding_that_takes_no_batches_does_not_count(tmp_path: Path) -> None:
    inside = "for fold in folds:\n    trainer.train()\n"
    source = f"{HF}a = TrainingArguments('x')\n{inside}"
    assert patched(tmp_path, source, remedy_named(WORKERS_4), "train.py:4") is not None
    source = f"{TORCH_LOADER}l = DataLoader(d)\nfor epoch in range(9):\n    fit(l)\n"
    assert patched(tmp_path, source, remedy_named(WORKERS_4), "train.py:4") is not None


@pytest.mark.parametrize(
    "source",
    [
        "for x in enumerate(tqdm(DataLoader(t))):\n    pass\n",
        "train = DataLoader(t)\nfor x in tqdm.auto.tqdm(train, total=9):\n    pass\n",
        "train = DataLoader(t)\ntrain = prepare(train)\nwith tqdm(train) as bar:\n    for x in bar:\n        pass\n",
        "model, train = Net(), DataLoader(t)\nmodel, train = prepare(model, train)\nfor x in train:\n    pass\n",
        "train, val = DataLoader(t), DataLoader(v)\nfor x in train:\n    pass\n",
        "def make():\n    return DataLoader(t)\ntrain: Any = make()\nfor x in train:\n    pass\n",
        "def fit(model, loader):\n    for x in loader:\n        pass\nfit(m, DataLoader(t))\n",
        "class T:\n    def a(self):\n        self.l = DataLoader(t)\n    def b(self):\n        for x in self.l:\n            0\n",
        "class T:\n    def fit(self, l):\n        for x in l:\n            pass\nT().fit(l=DataLoader(t))\n",
        "class T:\n    def fit(self, l):\n        for x in l:\n            pass\nT().fit(DataLoader(t))\n",
        "class T:\n    @classmethod\n    def go(cls, l):\n        for x in l:\n            pass\nT.go(DataLoader(t))\n",
    ],
)
def test_what_the_loop_at_the_finding_goes_over_is_changed(tmp_path: Path, source: str) -> None:
    rows = [number for number, row in enumerate(source.splitlines(), 2) if row.lstrip().startswith("for")]
    after = patched(tmp_path, TORCH_LOADER + source, remedy_named("persistent-workers"), f"train.py:{rows[0]}")
    assert after is None  # it needs workers
    after = patched(tmp_path, TORCH_LOADER + source, remedy_named("loader-workers=4"), f"train.py:{rows[0]}")
    assert after == TORCH_LOADER + source.replace("(t)", "(t, num_workers=4, persistent_workers=True)")


def test_a_loop_at_the_finding_says_nothing_about_other_calls(tmp_path: Path) -> None:
    source = "from torch.optim import AdamW\nfrom data import loader\no = AdamW(p)\nfor x in loader: step(x)\n"
    assert patched(tmp_path, source, remedy_named("fused-optimizer"), "train.py:4") == source.replace(
        "p)", "p, fused=True)"
    )


def test_a_finding_inside_of_the_data_is_about_the_training_loop(tmp_path: Path) -> None:
    """Its place is the slow line of a data set, and the validation has a loader too."""
    source = (
        f"{TORCH_LOADER}class D:\n    def __getitem__(self, i):\n        sleep(1)\ntrain = DataLoader(D(0))\n{VAL}"
        "for epoch in range(9):\n    for x in train:\n        loss(x).backward()\n"
    )
    after = patched(tmp_path, source, remedy_named("loader-workers=2"), "train.py:4")
    assert after == source.replace("(D(0)", "(D(0), num_workers=2, persistent_workers=True")


@pytest.mark.parametrize("place", [None, "train.py:4"])
def test_a_trainer_shows_which_loader_trains(tmp_path: Path, place: str | None) -> None:
    source = (
        f"{TORCH_LOADER}class D:\n    def __getitem__(self, i):\n        sleep(1)\ntrain = DataLoader(D(0))\n{VAL}"
        "trainer.fit(Net(), train, val)\n"
    )
    after = patched(tmp_path, source, remedy_named("loader-workers=2"), place)
    assert after == source.replace("(D(0)", "(D(0), num_workers=2, persistent_workers=True")


def test_without_a_place_the_loader_of_the_training_loop_is_changed(tmp_path: Path) -> None:
    ends = "for x in DataLoader(t):\n    loss(x).backward()\nfor x in make(): pass\n"
    after = patched(tmp_path, TORCH_LOADER + ends, remedy_named("pin-memory"))
    assert after == TORCH_LOADER + ends.replace("(t)", "(t, pin_memory=True)")


def test_names_that_are_given_to_each_other_end(tmp_path: Path) -> None:
    """Of so many ways to go from name to name, each name is looked at once."""
    names = [f"loader{i}" for i in range(12)]
    rows = [f"{one} = {other}\n" for one in names for other in names if one != other]
    source = f"{TORCH_LOADER}{''.join(rows)}loader0 = DataLoader(t)\nfor x in loader5: pass\n"
    line = len(source.splitlines())
    after = patched(tmp_path, source, remedy_named("pin-memory"), f"train.py:{line}")
    assert after == source.replace("(t)", "(t, pin_memory=True)")


@pytest.mark.parametrize(
    "source",
    [
        "from torch.nn.utils import clip_grad_norm_\nclip_grad_norm_(p, 1.0)\n",
        "from torch import nn\nnn.utils.clip_grad_norm_(p, 1.0)\n",
        "import torch\ntorch.nn.utils.clip_grad_norm_(p, 1.0)\n",
    ],
)
def test_a_function_of_torch_gets_its_argument(tmp_path: Path, source: str) -> None:
    assert patched(tmp_path, source, remedy_named("foreach-clipping")) == source.replace("1.0", "1.0, foreach=True")


def test_a_line_stands_before_the_training_and_after_the_import_that_it_needs(tmp_path: Path) -> None:
    """However late other imports come; what is set before torch is imported stays before it."""
    source = "import os\nos.environ['OMP_NUM_THREADS'] = '2'\nimport torch\nmodel.train()\nimport plots\n"
    line = "torch.set_num_threads(4)"
    after = patched(tmp_path, source, remedy_named("threads=4"))
    assert after == source.replace("import torch\n", f"import torch\n\n{line}\n")


def test_a_form_feed_ends_no_line(tmp_path: Path) -> None:
    source = '"""Doc."""\n\x0c\nimport os\nimport torch\nx = 1\n'
    after = patched(tmp_path, source, edit(TF32))
    assert after == source.replace("torch\n", f"torch\n\n{TF32.lines[0]}\n")


def test_lines_end_as_those_of_the_program(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(b"import torch\r\nx = 1\r\n")
    assert f"+{TF32.lines[0]}\r\n" in patch_of([(edit(TF32), None)], script).diff


def test_a_place_is_a_line_of_the_unchanged_program(tmp_path: Path) -> None:
    """Lines that another fix adds do not move it."""
    script = tmp_path / "train.py"
    script.write_text("import torch\na = AdamW(p)\nb = AdamW(q)\n")
    patch = patch_of([(edit(TF32), None), (edit(FUSED), "train.py:3")], script)
    assert "+b = AdamW(q, fused=True)" in patch.diff
    assert patch.by_hand == ()


def test_a_line_comes_after_the_imports(tmp_path: Path) -> None:
    source = '"""Trains."""\nfrom __future__ import annotations\nimport torch\nfrom torch import (\n    nn,\n)\nx = 1\n'
    after = patched(tmp_path, source, edit(TF32))
    assert after == source.replace(")\nx", ')\n\ntorch.set_float32_matmul_precision("high")\nx')


def test_a_module_that_is_not_imported_by_its_name_is(tmp_path: Path) -> None:
    after = patched(tmp_path, "import torch as t\nx = 1\n", edit(TF32))
    assert after == 'import torch as t\nimport torch\n\ntorch.set_float32_matmul_precision("high")\nx = 1\n'


def test_a_line_that_the_program_undoes_is_left_to_the_user(tmp_path: Path) -> None:
    own = AfterImports(("torch.set_num_threads(2)",), unless=("set_num_threads",))
    assert patched(tmp_path, "import torch\n", edit(own)) is not None
    assert patched(tmp_path, "import torch\ndef main():\n    torch.set_num_threads(1)\n", edit(own)) is None


def test_two_fixes_are_one_diff(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import torch\n\nl = DataLoader(d)\no = AdamW(p)\n")
    patch = patch_of([(edit(WORKERS, "2"), None), (edit(FUSED), None), (fix("unknown"), None)], script)
    assert patch.diff.count("\n+") == 3  # the head of the file, and two lines
    assert patch.by_hand == ("use('unknown')",)


@pytest.mark.parametrize("name", ["train.py", "code/train.py"])
def test_the_patch_names_the_file_from_where_the_user_is(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / name
    script.parent.mkdir(exist_ok=True)
    script.write_text("o = AdamW(p)\n")
    monkeypatch.chdir(tmp_path)
    for given in (script, Path(name)):
        assert patch_of([(edit(FUSED), None)], given).diff.startswith(f"--- a/{name}\n+++ b/{name}\n")
    diff = patch_of([(edit(FUSED), None)], script).diff
    subprocess.run(["patch", "-s", "-p1"], input=diff, text=True, check=True)
    assert script.read_text() == "o = AdamW(p, fused=True)\n"


def test_a_file_elsewhere_is_named_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "train.py"
    script.write_text("o = AdamW(p)\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert patch_of([(edit(FUSED), None)], Path("../train.py")).diff.startswith("--- a/train.py\n")


def test_a_program_without_a_file_is_changed_by_hand() -> None:
    assert patch_of([(edit(FUSED), None)], None) == Patch("", ("by hand",))
    assert patch_of([(edit(FUSED), None)], Path("not-there.py")) == Patch("", ("by hand",))
