"""Settings that hold only inside the step: read there, not between steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfu_doctor.capture.facts.in_step import StepSettings
from tests.capture.programs import PRELUDE, TRACE, read
from tests.capture.zygote import Zygote

torch = pytest.importorskip("torch", reason="torch is not installed")


def noted(*anomaly: bool) -> StepSettings:
    """Readings at the beginning of backward passes, some of them inside of anomaly detection."""
    settings = StepSettings()
    for on in anomaly:
        with torch.autograd.set_detect_anomaly(on):
            settings.note("backward")
        settings.note("step")
    return settings


def test_what_holds_at_backward_comes_before_what_holds_at_the_optimizer() -> None:
    assert noted(True, True).precision(None).anomaly_mode is True


def test_a_few_steps_of_debugging_are_not_the_loops() -> None:
    assert noted(True, False, False).precision("bfloat16").anomaly_mode is False
    assert noted(False).precision("bfloat16").autocast_dtype == "bfloat16"


def test_without_a_reading_the_settings_in_force_are_told() -> None:
    assert StepSettings().precision(None).float32_matmul_precision == torch.get_float32_matmul_precision()
    assert StepSettings().threads is None


def test_a_mode_around_a_part_of_the_step_is_named() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    settings = StepSettings()
    for _ in range(2):
        with FlopCounterMode(display=False):
            settings.note("forward")
        settings.note("backward")
    assert settings.precision(None).dispatch_modes == ("torch.utils.flop_counter._FlopCounterMode",)
    settings = StepSettings()
    settings.note("backward")
    assert settings.precision(None).dispatch_modes == ()


def test_threads_are_those_inside_of_steps() -> None:
    settings, before = StepSettings(), torch.get_num_threads()
    torch.set_num_threads(before + 1)
    settings.note("step")
    torch.set_num_threads(before)
    assert settings.threads == before + 1


WITHIN = """
import contextlib, warnings
warnings.simplefilter("ignore")

@contextlib.contextmanager
def inside():
    torch.use_deterministic_algorithms(True)
    with torch.autograd.detect_anomaly(check_nan=False):
        yield
    torch.use_deterministic_algorithms(False)

with block() as doctor:
    for x, y in loader(24):
"""
AROUND_THE_STEP = """
        with inside():
            train(x, y)
"""


AROUND_THE_BACKWARD = """
        with inside():
            forward(x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
"""


@pytest.mark.parametrize(
    "step", [AROUND_THE_STEP, AROUND_THE_BACKWARD], ids=["the whole step", "without its optimizer"]
)
def test_a_context_manager_in_each_step_is_seen(zygote: Zygote, tmp_path: Path, step: str) -> None:
    ran = zygote.run(PRELUDE + WITHIN + step, tmp_path)
    assert ran.code == 0, ran.err
    precision = read(tmp_path / TRACE).facts.precision
    assert precision is not None
    assert precision.anomaly_mode is True
    assert precision.deterministic is True


def test_whether_the_fast_convolutions_are_on_is_read() -> None:
    library = torch.backends.mkldnn
    before = library.enabled
    try:
        library.enabled = False
        off = StepSettings().precision(None).onednn
    finally:
        library.enabled = before
    assert off is (False if library.is_available() else None)
    assert StepSettings().precision(None).cudnn is torch.backends.cudnn.enabled


def test_an_autocast_region_around_the_whole_block_is_seen_inside_of_it() -> None:
    settings = StepSettings()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        settings.note("backward")
    assert settings.precision(None).autocast_dtype == "bfloat16"
    assert noted(False).precision(None).autocast_dtype is None


def test_inference_mode_is_seen_where_the_model_is_called() -> None:
    settings = StepSettings()
    with torch.inference_mode():
        settings.note("forward")
    assert settings.precision(None).inference_mode is True
    assert noted(False).precision(None).inference_mode is False


AUTOCAST = """
with block() as doctor:
    for x, y in loader(24):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = forward(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
"""

INFERENCE = """
with block() as doctor:
    for _ in range(24):
        with torch.inference_mode():
            model(torch.ones(4, 8))
"""

# The loader tells the steps.
LOADED = """
with block() as doctor:
    for x, _ in loader(24):
        with torch.inference_mode():
            model(x)
"""

# torch.jit.script could not read a function that stands in for the class's `forward`.
OWN_FORWARD = """
class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 4)
    def forward(self, x):
        return nn.functional.relu(self.inner(x))
plain, own = Plain(), Plain.forward
with block() as doctor:
    for x, _ in loader(24):
        with torch.inference_mode():
            plain(x)
        assert Plain.forward is own
"""

LOADED_AUTOCAST = """
with block() as doctor:
    for x, _ in loader(24):
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            model(x)
"""


@pytest.mark.parametrize(
    ("body", "autocast", "inference"),
    [
        (AUTOCAST, "bfloat16", False),
        (INFERENCE, None, True),
        (LOADED, None, True),
        (OWN_FORWARD, None, True),
        (LOADED_AUTOCAST, "bfloat16", True),
    ],
    ids=[
        "autocast",
        "inference",
        "inference with a loader",
        "a class that stays as it is",
        "autocast and inference with a loader",
    ],
)
def test_a_region_around_the_forward_pass_of_each_step_is_seen(
    zygote: Zygote, tmp_path: Path, body: str, autocast: str | None, inference: bool
) -> None:
    ran = zygote.run(PRELUDE + body, tmp_path)
    assert ran.code == 0, ran.err
    precision = read(tmp_path / TRACE).facts.precision
    assert precision is not None
    assert (precision.autocast_dtype, precision.inference_mode) == (autocast, inference)
