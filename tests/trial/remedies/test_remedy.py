"""A remedy with its setting: how it is named, worded and edited."""

from __future__ import annotations

import pytest

from mfu_doctor.rules.catalogue import RULES
from mfu_doctor.trial.remedies.catalogue import REMEDIES
from mfu_doctor.trial.remedies.remedy import AfterImports, Chosen, Edit, Keywords, Numerics, Remedy


def remedy(*edits: Edit) -> Remedy:
    return Remedy(
        name="workers",
        answers=("input-bound",),
        words="{setting} workers load",
        line="DataLoader(..., num_workers={setting})",
        numerics=Numerics.ORDER,
        why_not=lambda _: None,
        apply=lambda _: None,
        edits=edits,
    )


def test_a_setting_is_in_the_name_the_words_and_the_line() -> None:
    chosen = Chosen(remedy(), "4")
    assert (chosen.name, chosen.words) == ("workers=4", "4 workers load")
    assert chosen.line == "DataLoader(..., num_workers=4)"


@pytest.mark.parametrize(
    ("edit", "filled"),
    [
        (
            Keywords(("DataLoader",), (("num_workers", "{setting}"),)),
            Keywords(("DataLoader",), (("num_workers", "4"),)),
        ),
        (AfterImports(("torch.set_num_threads({setting})",)), AfterImports(("torch.set_num_threads(4)",))),
    ],
)
def test_a_setting_is_in_the_edit(edit: Edit, filled: Edit) -> None:
    assert Chosen(remedy(edit), "4").edits == (filled,)


def test_every_remedy_answers_rules_that_there_are() -> None:
    rules = {rule.name for rule in RULES}
    assert {r.name: set(r.answers) - rules for r in REMEDIES if set(r.answers) - rules} == {}


def test_every_remedy_has_a_name_of_its_own() -> None:
    names = [r.name for r in REMEDIES]
    assert len(set(names)) == len(names)
