"""Settings from pyproject.toml: the nearest ``[tool.mfu-doctor]`` upwards, checked word by word.

If a misspelt budget were ignored, nothing would be checked. So an unknown key is an error that suggests the right one. Options on
the command line replace the values of the file, key by key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from mfu_doctor.comparison.measures import MEASURES, Budget, parse_budgets
from mfu_doctor.comparison.samples import KEYS
from mfu_doctor.errors import DoctorError, suggest
from mfu_doctor.inputs.overrides import check_model_flops, check_peak_flops

if TYPE_CHECKING:
    from mfu_doctor.gate.judge import Policy

FILE = "pyproject.toml"
TABLE = "mfu-doctor"

_NUMBERS = ("peak-flops", "model-flops")
_SECTIONS = ("check", "rules")
_CHECK_KEYS = ("strict", "allow-different")


class Settings(Struct, frozen=True, kw_only=True):
    """What the file says; every field is empty if it says nothing.

    Attributes:
        path: the file, None if there is none.
        peak_flops: dense FLOP/s of the device's training dtype.
        model_flops: FLOP per step.
        budgets: limits under ``[tool.mfu-doctor.check]``.
        strict: an inconclusive check fails.
        allow_different: comparability keys in which runs may differ.
        levels: off, warn or error by rule, code or family under ``[tool.mfu-doctor.rules]``.
    """

    path: Path | None = None
    peak_flops: float | None = None
    model_flops: float | None = None
    budgets: tuple[Budget, ...] = ()
    strict: bool = False
    allow_different: tuple[str, ...] = ()
    levels: Mapping[str, str] = field(default_factory=dict)

    def policy(
        self, *, budgets: Mapping[str, object], levels: Mapping[str, str], strict: bool, allow_different: Sequence[str]
    ) -> Policy:
        """What the runs are checked against: options replace values of the file, key by key; a flag in either is set.

        Raises:
            DoctorError: an option is not a budget.
        """
        from mfu_doctor.gate.judge import Policy

        given = parse_budgets({name: value for name, value in budgets.items() if value is not None})
        named = {budget.measure.name for budget in given}
        return Policy(
            budgets=(*given, *(budget for budget in self.budgets if budget.measure.name not in named)),
            levels={**self.levels, **levels},
            strict=strict or self.strict,
            allow_different=tuple(dict.fromkeys((*allow_different, *self.allow_different))),
        )


def settings_here() -> Settings:
    """Settings that hold in the working directory; none if that directory was deleted."""
    try:
        here = Path.cwd()
    except OSError:
        return Settings()
    return find_settings(here)


def find_settings(start: Path) -> Settings:
    """Settings of the nearest pyproject.toml with a ``[tool.mfu-doctor]`` table, from `start` upwards.

    Args:
        start: the folder to start in.

    Raises:
        DoctorError: the file is not TOML, or a key or value in our table is wrong.
    """
    folder = start.resolve()
    for place in (folder, *folder.parents):
        path = place / FILE
        table = _table(path) if path.is_file() else None
        if table is not None:
            return parse_settings(table, path)
    return Settings()


def _table(path: Path) -> dict[str, Any] | None:
    """Our table of one file, or None if it has none."""
    import tomllib

    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, not UTF-8, or a number of more digits than Python reads
        raise DoctorError(f"{path} is not TOML ({error})", "fix the TOML syntax") from error
    except RecursionError:
        raise DoctorError(f"{path} is nested too deeply to be read", "remove the nested arrays") from None
    except OSError as error:
        raise DoctorError(f"{path} cannot be read ({error.strerror})", "make it readable") from error
    tool = data.get("tool")
    table = tool.get(TABLE) if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise DoctorError(f"{path}: tool.{TABLE} must be a TOML table", f"write [tool.{TABLE}]")
    return table


def parse_settings(table: Mapping[str, Any], path: Path) -> Settings:
    """Settings from the parsed table; every error names the file.

    Raises:
        DoctorError: a key or value is wrong.
    """
    try:
        _known(table, (*_NUMBERS, *_SECTIONS), "")
        check, levels = _section(table, "check"), _section(table, "rules")
        _known(check, (*(measure.option for measure in MEASURES), *_CHECK_KEYS), "check.")
        return Settings(
            path=path,
            peak_flops=_number(table, "peak-flops", check_peak_flops),
            model_flops=_number(table, "model-flops", check_model_flops),
            budgets=parse_budgets({key: value for key, value in check.items() if key not in _CHECK_KEYS}),
            strict=_flag(check, "strict"),
            allow_different=_keys(check, "allow-different"),
            levels=_levels(levels),
        )
    except DoctorError as error:
        raise DoctorError(f"{path}: {error.problem}", error.remedy) from error


def _known(table: Mapping[str, Any], known: Sequence[str], prefix: str) -> None:
    for key in table:
        if key not in known:
            raise DoctorError(f"unknown setting {prefix}{key}", suggest(key, known))


def _section(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = table.get(name, {})
    if not isinstance(section, dict):
        raise DoctorError(f"{name} must be a TOML table", f"write [tool.{TABLE}.{name}]")
    return section


def _levels(given: Mapping[str, object]) -> dict[str, str]:
    """Levels of rules. They are named by their names, so only a file that sets levels needs to import the rules."""
    if not given:
        return {}
    from mfu_doctor.gate.levels import parse_levels

    return parse_levels(given)


def _number(table: Mapping[str, Any], key: str, check: Callable[[float | None, str], None]) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DoctorError(f"invalid value {value!r} for {key}", "write a positive number such as 989.5e12")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    check(number, key)
    return number


def _flag(table: Mapping[str, Any], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise DoctorError(f"invalid value {value!r} for {key}", "write true or false")
    return value


def _keys(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise DoctorError(f"invalid value {value!r} for {key}", f'write a list such as ["{KEYS[0]}"]')
    for item in value:
        if item not in KEYS:
            raise DoctorError(f"unknown key {item!r} in {key}", suggest(str(item), KEYS))
    return tuple(value)
