"""Settings come from the nearest table upwards, a misspelt word is an error, and options win over the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfu_doctor.errors import LONGEST_PART, DoctorError
from mfu_doctor.gate.levels import parse_levels
from mfu_doctor.inputs.settings import Settings, find_settings

GOOD = """
[tool.mfu-doctor]
peak-flops = 989.5e12
[tool.mfu-doctor.check]
step-time = "+5%"
mfu = "30%"
syncs = 0
strict = true
allow-different = ["torch"]
[tool.mfu-doctor.rules]
input-bound = "error"
KE = "off"
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def test_every_key_is_read(tmp_path: Path) -> None:
    settings = find_settings(write(tmp_path, GOOD))
    assert settings.path == tmp_path / "pyproject.toml"
    assert settings.peak_flops == 989.5e12
    assert {b.name: (b.limit, b.relative) for b in settings.budgets} == {
        "step-time": (0.05, True),
        "mfu": (0.3, False),
        "syncs": (0.0, False),
    }
    assert settings.strict
    assert settings.allow_different == ("torch",)
    assert settings.levels == {"input-bound": "error", "KE": "off"}


def test_the_nearest_file_with_our_table_wins(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path / "a", "[tool.other]\nx = 1\n")  # not ours: passed over
    inner = write(tmp_path / "a" / "b", "[tool.mfu-doctor]\nmodel-flops = 1e12\n")
    assert find_settings(inner / ".").model_flops == 1e12
    assert find_settings(tmp_path / "a").peak_flops == 989.5e12


def test_without_a_file_there_are_no_settings(tmp_path: Path) -> None:
    assert find_settings(tmp_path) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.mfu-doctor]\npeek-flops = 1\n", "peek-flops.*did you mean peak-flops"),
        ("[tool.mfu-doctor.chekc]\nmfu = '1%'\n", "chekc.*did you mean check"),
        ("[tool.mfu-doctor.check]\nstep-tmie = '450ms'\n", "check.step-tmie.*did you mean step-time"),
        ("[tool.mfu-doctor.rules]\ninput-bond = 'error'\n", "input-bond.*did you mean input-bound"),
        ("[tool.mfu-doctor.rules]\nXX = 'error'\n", "no rule 'XX'"),
        ("[tool.mfu-doctor.rules]\ninput-bound = 'fatal'\n", "off, warn, error"),
        ("[tool.mfu-doctor.check]\nmfu = 'high'\n", "percentage"),
        ("[tool.mfu-doctor.check]\nstrict = 'yes'\n", "true or false"),
        ("[tool.mfu-doctor.check]\nallow-different = 'torch'\n", "list"),
        ("[tool.mfu-doctor.check]\nallow-different = ['tourch']\n", "did you mean torch"),
        ("[tool.mfu-doctor]\npeak-flops = -1\n", "not a peak in FLOP/s"),
        ("[tool.mfu-doctor]\npeak-flops = 989.5\n", "write 989.5e12"),
        ("[tool.mfu-doctor]\npeak-flops = 'fast'\n", "positive number"),
        (f"[tool.mfu-doctor]\nmodel-flops = {'9' * 401}\n", "not a valid number of FLOP"),
        ("[tool.mfu-doctor]\ncheck = 3\n", "must be a TOML table"),
        ("tool.mfu-doctor = 3\n", "must be a TOML table"),
        ("[tool.mfu-doctor\n", "not TOML"),
    ],
)
def test_a_wrong_word_is_an_error_that_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DoctorError, match=f"pyproject.toml.*{message}") as caught:
        find_settings(write(tmp_path, text))
    assert caught.value.exit_code == 2


def test_options_win_over_the_file_key_by_key(tmp_path: Path) -> None:
    settings = find_settings(write(tmp_path, GOOD))
    policy = settings.policy(
        budgets={"mfu": "40%", "idle": None}, levels={"input-bound": "warn"}, strict=False, allow_different=["device"]
    )
    assert {b.name: b.limit for b in policy.budgets} == {"mfu": 0.4, "step-time": 0.05, "syncs": 0.0}
    assert policy.levels == {"input-bound": "warn", "KE": "off"}
    assert policy.strict
    assert policy.allow_different == ("device", "torch")


def test_a_level_holds_for_a_rule_whatever_it_is_called(tmp_path: Path) -> None:
    """The file and the option may use different names of one rule: the option wins all the same."""
    text = "[tool.mfu-doctor.rules]\nnum_workers = 'error'\nkernels = 'off'\n"
    settings = find_settings(write(tmp_path, text))
    assert settings.levels == {"input-bound": "error", "KE": "off"}
    policy = settings.policy(budgets={}, levels=parse_levels({"IN001": "warn"}), strict=False, allow_different=())
    assert policy.levels == {"input-bound": "warn", "KE": "off"}


LONG = "9" * 401


@pytest.mark.parametrize(
    "lines",
    [
        "peak-flops = 989.5",
        f"peak-flops = {LONG}",
        "peak-flops = 1e308",
        "model-flops = 1e-320",
        f"model-flops = {'9' * 5000}",
        f"x = {'[' * 5000}{']' * 5000}",
        f"{'a' * 200_000} = 1",
        f"peak-flops = '{'a' * 200_000}'",
        f"check.step-time = {LONG}",
        f"check.step-time = '{LONG} s'",
        f"check.step-time = '+{LONG}%'",
        f"check.syncs = '+{LONG}'",
        "check.idle = nan",
        f"rules.'{LONG}' = 'off'",
    ],
    ids=lambda lines: lines[:25],
)
def test_whatever_stands_there_the_error_is_one_sentence(tmp_path: Path, lines: str) -> None:
    with pytest.raises(DoctorError) as error:
        find_settings(write(tmp_path, f"[tool.mfu-doctor]\n{lines}\n"))
    assert len(str(error.value)) < 3 * LONGEST_PART
