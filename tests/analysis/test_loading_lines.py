"""input-bound without workers: what loading costs, and what it could, is told by the lines at which the thread loads."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.analysis.evidence.loading_lines import OTHER, _function
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import FrameSample, HostFacts, LoaderFacts
from mfu_doctor.facts.user_functions import UserFunction
from mfu_doctor.rules.input.input_bound import input_bound
from tests.rules.input.test_input_bound import on_cpu
from tests.rules.judging import close, found, price_us, run_of

BASE = 1_000_000_000_000
READS = ("data.py:46", "numpy.read_array", "zipfile")
ROLLS = ("data.py:48", "numpy.roll", "numpy")
COLLATES = ("train.py:9", "torch.fetch", "torch")


def loading(*lines: tuple[str, str | None, str | None], within: tuple[tuple[UserFunction, ...], ...] = ()) -> Run:
    """A batch takes 60 ms to load, at these lines in equal parts (`within` these functions), and training 40 ms on both cores."""
    drawn = on_cpu(60_000, 40_000)
    drawn.header["baseTimeNanoseconds"] = BASE
    fetches = [e["ts"] for e in drawn.events if "DataLoader" in e["name"]]
    frames = tuple(
        FrameSample(
            time_ns=BASE + (at + 1_000 + i * 60_000 // len(lines)) * 1_000,
            place=place,
            call=call,
            library=library,
            within=within[i] if within else (),
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
        pytest.param(("data.py:9", None, None), "do it once and keep it, if it is the same each time", id="own code"),
    ],
)
def test_the_remedy_suits_what_the_thread_does(line: tuple[str, str | None, str | None], advice: str) -> None:
    assert advice in found(input_bound, loading(*[line] * 4)).fix


def test_a_few_samples_tell_nothing() -> None:
    finding = found(input_bound, loading(READS))
    assert finding.fix == "# decode once and keep it, or make the transforms cheaper"


FILTERS, ITEM = UserFunction("mel_filters", "mel.py:38"), UserFunction("Mels.__getitem__", "mel.py:90", draws=True)
SPREAD = tuple((f"mel.py:{line}", None, None) for line in range(40, 44))
STFT = ("mel.py:60", None, "torch")
INSIDE = ((FILTERS, ITEM),) * len(SPREAD) + ((ITEM,),)


def test_where_no_line_has_most_the_innermost_function_that_has_most_is_named() -> None:
    """The line of the loop was, with all that the dataset has as the thing to keep; a function has 80 % of loading."""
    run = loading(*SPREAD, STFT, within=INSIDE)
    finding = found(input_bound, run)
    assert finding.place == "mel.py:38"
    assert finding.fix.startswith("# mel.py:38 mel_filters() of Mels.__getitem__: make it cheaper, or compute it once")
    assert "if its arguments are the same" in finding.fix
    assert "mel.py:38 mel_filters() of Mels.__getitem__ takes 80 % of loading" in (finding.detail or "")
    price = price_us(input_bound, run)
    assert price.high_ns == close(0.8 * 60_000)
    assert price.low_ns == close(0.25 * 0.8 * 60_000)
    assert finding.decides is not None
    assert finding.decides.high == "mel_filters() costs nothing any more"
    assert finding.confidence == "hint"


def test_a_line_of_the_programs_own_with_most_is_named_with_its_function() -> None:
    run = loading(*[SPREAD[0]] * 4, STFT, within=INSIDE)
    finding = found(input_bound, run)
    assert finding.place == "mel.py:40"
    assert finding.fix.startswith("# mel.py:40 mel_filters() of Mels.__getitem__")


def test_what_a_function_draws_is_not_to_be_kept() -> None:
    """An augmentation on many lines, of which the samples show no function of a library: the function itself names what draws."""
    noise = UserFunction("Noise.__call__", "aug.py:75", draws=True)
    run = loading(*SPREAD, STFT, within=((noise, ITEM),) * 4 + ((ITEM,),))
    assert "make the random part cheaper" in found(input_bound, run).fix
    assert "mel.py:38" not in found(input_bound, run).fix


def test_a_function_that_training_runs_in_too_is_not_one_of_loading() -> None:
    """train() is on every stack of a loop over an iterator of its own."""
    train = (UserFunction("train", "train.py:3"),)
    fetching = FrameSample(time_ns=0, place="mel.py:40", within=train)
    training = FrameSample(time_ns=0, place="train.py:9", within=train)
    assert _function([fetching] * 10, [], {"mel.py:40": OTHER}) is not None
    assert _function([fetching] * 10, [training] * 10, {"mel.py:40": OTHER}) is None


def by_stacks(**facts: Any) -> Run:
    """A batch takes 60 ms to load, 45 of them in mel_filters() by the stacks; no samples were taken."""
    drawn = on_cpu(60_000, 40_000)
    fetches = [e for e in drawn.events if "DataLoader" in e["name"]]
    for fetch in fetches:
        for begin, us, name in ((0, 59_000, "mel.py(90): __getitem__"), (5_000, 45_000, "mel.py(38): mel_filters")):
            at = fetch["ts"] + 100 + begin
            drawn.events.append({**fetch, "cat": "python_function", "name": name, "ts": at, "dur": us})
    loaders = (LoaderFacts(class_name="DataLoader", num_workers=0, fetches=6, cpu_s=0.060),)
    read = facts.pop("read", None)
    host = HostFacts(cores=2, affinity=2, torch_threads=2, cpu_share=(60 + 2 * 40) / 100, loading_read_bytes_s=read)
    return run_of(drawn, loaders=loaders, host=host, **facts)


def test_the_stacks_of_the_thread_that_loads_know_the_function_where_hardly_a_sample_was_taken() -> None:
    """Looks get no turn in short Python: nine of ten in a fetch told nothing, and the line of the loop was named."""
    finding = found(input_bound, by_stacks())
    assert finding.place == "mel.py:38"
    assert finding.fix.startswith("# mel.py:38 mel_filters() of __getitem__: make it cheaper, or compute it once")
    assert price_us(input_bound, by_stacks()).high_ns == close(45_000)


def test_a_function_of_loading_is_not_the_price_where_most_of_what_is_read_is_dropped() -> None:
    """2.4 MiB are read for a batch of 250 KiB: a tenth of loading stays, whatever the function is that reads."""
    run = by_stacks(read=10 * 256e3 / 0.1, batch_elements=32_000)
    finding = found(input_bound, run)
    assert "read each file once and keep it" in finding.fix
    assert finding.confidence == "modelled"
    assert price_us(input_bound, run).mid_ns == close(0.9 * 60_000)
