"""Remedies of the host: threads, garbage, anomaly detection, the allocator."""

from __future__ import annotations

import pytest

from tests.trial.remedies.programs import TRAINING, Try


def test_the_number_of_threads_stays_as_it_was_set(tried: Try) -> None:
    ran = tried(
        """
torch.set_num_threads(1)
said["threads"] = torch.get_num_threads()
class Threads(Dataset):
    def __len__(self): return 1
    def __getitem__(self, i): return torch.get_num_threads()
said["worker"] = next(iter(DataLoader(Threads(), num_workers=1))).item()
""",
        "threads=2",
    )
    assert ran.said == {"threads": 2, "worker": 1, "effects": ["threads"]}


def test_threads_change_the_last_bits_at_most(tried: Try) -> None:
    assert tried(TRAINING, "threads=2").losses == pytest.approx(tried(TRAINING).losses, rel=1e-4)


def test_anomaly_detection_is_off_in_every_form(tried: Try) -> None:
    ran = tried(
        """
warnings.simplefilter("ignore")
on = torch.is_anomaly_enabled
torch.autograd.set_detect_anomaly(True)
said["set"] = on()
with torch.autograd.set_detect_anomaly(True, check_nan=False): said["region"] = on()
with torch.autograd.detect_anomaly(): said["other region"] = on()
torch.set_anomaly_enabled(True)
said["direct"] = on()
"""
        + TRAINING,
        "anomaly-off",
    )
    assert [ran.said[form] for form in ("set", "region", "other region", "direct")] == [False] * 4
    assert ran.losses == tried(TRAINING).losses
    assert ran.effects == ["anomaly-off"]
    assert tried(TRAINING, "anomaly-off").effects == []


def test_what_is_there_after_the_first_step_is_frozen(tried: Try) -> None:
    ran = tried(
        f"import gc\nsaid['before'] = gc.get_freeze_count()\n{TRAINING}\nsaid['after'] = gc.get_freeze_count()",
        "gc-freeze",
    )
    assert ran.said["after"] > ran.said["before"]
    assert ran.losses == tried(TRAINING).losses
    assert ran.effects == ["gc-freeze"]


@pytest.mark.parametrize(("own", "effects"), [("", ["gc-threshold"]), ("gc.set_threshold(900)", [])])
def test_the_collector_runs_more_rarely_unless_the_program_says(tried: Try, own: str, effects: list[str]) -> None:
    ran = tried(f"import gc\n{own}\nsaid['threshold'] = gc.get_threshold()[0]{TRAINING}", "gc-threshold")
    assert ran.said["threshold"] == (900 if own else 50_000)
    assert ran.losses == tried(TRAINING).losses
    assert ran.effects == effects


def test_collecting_in_each_step_becomes_rare(tried: Try) -> None:
    ran = tried(
        """
import gc, weakref
class Circle: pass
def dead():
    circle = Circle()
    circle.me = circle
    return weakref.ref(circle)
gc.disable()
said["gone"] = []
for _ in range(101):
    circle = dead()
    gc.collect(generation=2)
    said["gone"].append(circle() is None)
""",
        "rare-gc-collect",
    )
    assert [i for i, gone in enumerate(ran.said["gone"]) if gone] == [0, 100]
    assert ran.effects == ["rare-gc-collect"]
    assert tried(TRAINING, "rare-gc-collect").losses == tried(TRAINING).losses


def test_the_cache_of_the_allocator_is_kept(tried: Try) -> None:
    ran = tried("torch.cuda.empty_cache(); torch.cuda.memory.empty_cache()", "kept-cache")
    assert ran.effects == ["kept-cache"]
    assert tried(TRAINING, "kept-cache").losses == tried(TRAINING).losses


VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"


@pytest.mark.parametrize(
    ("given", "then", "effects"),
    [
        ("", "expandable_segments:True", ["expandable-segments"]),
        ("max_split_size_mb:64", "max_split_size_mb:64,expandable_segments:True", ["expandable-segments"]),
        ("expandable_segments:False", "expandable_segments:False", []),
    ],
)
def test_segments_grow_unless_the_environment_says(tried: Try, given: str, then: str, effects: list[str]) -> None:
    ran = tried(
        f"""
from mfu_doctor.trial.remedies.catalogue import remedy_named
os.environ["{VARIABLE}"] = "{given}"
remedy_named("expandable-segments").apply()
said["variable"] = os.environ["{VARIABLE}"]
"""
    )
    assert ran.said == {"variable": then, "effects": effects}
    assert tried(TRAINING, "expandable-segments").losses == tried(TRAINING).losses


def test_cudnn_measures_its_algorithms_unless_the_program_says(tried: Try) -> None:
    ran = tried("said['on'] = torch.backends.cudnn.benchmark", "cudnn-benchmark")
    assert ran.said == {"on": True, "effects": ["cudnn-benchmark"]}
    assert tried("torch.backends.cudnn.benchmark = False", "cudnn-benchmark").effects == []
    assert tried(TRAINING, "cudnn-benchmark").losses == tried(TRAINING).losses
