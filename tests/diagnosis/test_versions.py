"""A fix exists in the versions of the run: an older spelling, or what to upgrade first; nothing is said of unknown versions."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.evidence.library_versions import for_versions
from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.rule_runner import examine
from mfu_doctor.rules.contract import Finding
from mfu_doctor.rules.host.host_bound import host_bound
from tests.rules.host.test_host_bound import launching
from tests.rules.judging import run_of
from tests.timeline import Timeline

COMPILE = 'model = torch.compile(model, mode="reduce-overhead")'


def with_versions(*versions: tuple[str, str], drawn: Timeline | None = None) -> Run:
    return run_of(drawn or Timeline(), versions=versions)


@pytest.mark.parametrize(
    ("fix", "torch", "told"),
    [
        (COMPILE, "1.13.1+cu117", COMPILE + "\n# needs torch >= 2.0; this run has 1.13: upgrade first"),
        (COMPILE, "2.0.0", COMPILE),
        ("optimizer.zero_grad(set_to_none=True)", "1.13.1", "optimizer.zero_grad(set_to_none=True)"),
        ("scaler = torch.amp.GradScaler()", "2.2.0", "scaler = torch.cuda.amp.GradScaler()"),
        ("scaler = torch.amp.GradScaler()", "2.10.0", "scaler = torch.amp.GradScaler()"),
        ('torch.set_float32_matmul_precision("high")', "1.11.0", "torch.backends.cuda.matmul.allow_tf32 = True"),
        ("DataLoader(..., num_workers=2)", "1.4.0", "DataLoader(..., num_workers=2)"),
    ],
)
def test_a_fix_exists_in_the_version_of_torch(fix: str, torch: str, told: str) -> None:
    assert for_versions(with_versions(("torch", torch)), fix) == told


def test_a_library_is_asked_for_its_own_version() -> None:
    fix = 'from_pretrained(..., attn_implementation="sdpa")'
    old = with_versions(("torch", "2.4.0"), ("transformers", "4.30.2"))
    assert for_versions(old, fix).endswith("# needs transformers >= 4.36; this run has 4.30: upgrade first")
    assert for_versions(with_versions(("torch", "2.4.0"), ("transformers", "4.57.0")), fix) == fix


def test_nothing_is_said_of_a_version_that_is_not_known() -> None:
    assert for_versions(with_versions(), COMPILE) == COMPILE
    assert for_versions(with_versions(("torch", "a custom build")), COMPILE) == COMPILE


def test_every_rule_is_asked() -> None:
    (examined,) = examine(with_versions(("torch", "1.12.0"), drawn=launching()), [host_bound])
    assert isinstance(examined.outcome, Finding)
    assert examined.outcome.fix.endswith("# needs torch >= 2.0; this run has 1.12: upgrade first")
