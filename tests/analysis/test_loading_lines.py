"""input-bound without workers: what loading costs, and what it could, is told by the lines at which the thread loads."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import FrameSample, HostFacts, LoaderFacts
from mfu_doctor.rules.input.input_bound import input_bound
from tests.rules.input.test_input_bound import on_cpu
from tests.rules.judging import close, found, price_us, run_of

BASE = 1_000_000_000_000
READS = ("data.py:46", "numpy.read_array", "zipfile")
ROLLS = ("data.py:48", "numpy.roll", "numpy")
COLLATES = ("train.py:9", "torch.fetch", "torch")


def loading(*lines: tuple[str, str | None, str | None]) -> Run:
    """A batch takes 60 ms to load, at these lines in equal parts, and training 40 ms on both cores."""
    drawn = on_cpu(60_000, 40_000)
    drawn.header["baseTimeNanoseconds"] = BASE
    fetches = [e["ts"] for e in drawn.events if "DataLoader" in e["name"]]
    frames = tuple(
        FrameSample(
            time_ns=BASE + (at + 1_000 + i * 60_000 // len(lines)) * 1_000, place=place, call=call, library=library
        )
        for at in fetches
        for i, (place, call, library) in enumerate(lines)
    )
    host = HostFacts(cores=2, affinity=2, torch_threads=2, cpu_share=(60 + 2 * 40) / 100)
    facts = (LoaderFacts(class_name="DataLoader", num_workers=0, fetches=6, cpu_s=0.060),)
    return run_of(drawn, loaders=facts, host=host, frames=frames)


def test_what_is_read_again_for_each_sample_goes_nearly_all() -> None:
    run = loading(*[READS] * 9, ROLLS)
    finding = found(input_bound, run)
    assert finding.place == "data.py:46"
    assert finding.fix.startswith("# data.py:46 numpy.read_array(): read and decode it once")
    assert "data.py:46 numpy.read_array() takes 90 % of loading" in (finding.detail or "")
    price = price_us(input_bound, run)
    assert price.low_ns == close(60_000 * (0.9 + 0.1 * 0.25))
    assert price.mid_ns == close(60_000 * (0.9 + 0.1 * 0.5))


def test_what_was_encoded_before_it_is_decoded_need_not_be_the_same() -> None:
    """JPEG as an augmentation was told to decode once, and nearly all of it was promised."""
    run = loading(*[("data.py:8", "PIL.convert", "PIL")] * 9, ("data.py:7", "PIL.save", None))
    assert "decodes what is encoded there" in found(input_bound, run).fix
    assert price_us(input_bound, run).low_ns == close(60_000 * 0.25)
    other = loading(*[("data.py:8", "PIL.convert", "PIL")] * 9, ("data.py:7", "numpy.save", None))
    assert "read and decode it once" in found(input_bound, other).fix


def test_a_batch_that_is_put_together_is_no_work_of_the_dataset() -> None:
    run = loading(*[COLLATES] * 3, ROLLS)
    assert "BatchSampler" in found(input_bound, run).fix
    assert price_us(input_bound, run).high_ns == close(60_000 * 0.25)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        pytest.param(("data.py:5", "transformers.encode", "transformers"), "tokenize once", id="tokenizing"),
        pytest.param(("data.py:6", "torchvision.forward", "PIL"), "make the random part cheaper", id="transforms"),
        pytest.param(("data.py:7", "numpy.random_integers", "numpy"), "make the random part cheaper", id="random"),
        pytest.param(("data.py:8", "PIL.open", "PIL"), "read and decode it once", id="images"),
        pytest.param(("data.py:9", None, None), "samples = [dataset[i]", id="own code"),
    ],
)
def test_the_remedy_suits_what_the_thread_does(line: tuple[str, str | None, str | None], advice: str) -> None:
    assert advice in found(input_bound, loading(*[line] * 4)).fix


def test_a_few_samples_tell_nothing() -> None:
    finding = found(input_bound, loading(READS))
    assert "samples = [dataset[i]" in finding.fix
