"""What the training thread or the loader's workers do while they load a batch: at which lines, and of what kind their work is.

What is read, decoded or tokenized is the same each time, so that keeping it removes nearly all of it. What draws random numbers
has to be done again, and so has what is decoded after it was encoded there (an augmentation). Of all else only its author knows:
its function is named, the innermost one that most of loading is spent in, since its time may be spread over many lines.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.evidence.fetching_functions import FetchingFunction, fetching_function
from mfu_doctor.analysis.evidence.loading import is_pipelined
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import FrameSample
from mfu_doctor.facts.user_functions import UserFunction
from mfu_doctor.quantities import share

READING, TOKENIZING, COLLATING, RANDOM, OTHER = "reading", "tokenizing", "collating", "random", "other"
ENCODED = "encoded"  # read from what was written while the sample was loaded

_FEWEST = 10  # samples in fetches: the share of a half is then known to a third of itself
_MOST = 0.5  # of the samples, from which on a line or a kind is named
_APART = 0.1  # of the samples in a function of loading, from which on outside of fetches it is one of training
_FORMATS = re.compile(
    r"^(zipfile|gzip|bz2|lzma|tarfile|json|csv|pickle|h5py|zarr|pandas|pyarrow|imageio|soundfile|audioread|av|decord|lmdb|webdataset"
    r"|nibabel|pydicom|rasterio|netCDF4|xarray|safetensors|sqlite3|fsspec|boto3|botocore|s3fs)$"
)
_READS = re.compile(r"^_?(read|load|open|decode|imread|parse|from_?file|memmap|unpack|extract)|^convert$")
_WRITES = re.compile(r"^_?(save|encode|imencode|imwrite|write|dump|compress|pack|to_?(bytes|buffer))")
_TOKENIZERS = re.compile(r"^(transformers|tokenizers|sentencepiece|tiktoken|nltk|spacy)$")
_DRAWS = re.compile(r"rand|shuffle|choice|permut|noise|jitter|augment|flip|crop|rotat|mixup|cutout")
_DRAWING = re.compile(r"^(random|torchvision|albumentations|imgaug|kornia)$")
# What the DataLoader does itself, below the line of the loop: it puts a batch together. The user's dataset has lines of its own.
_FETCH = "torch.fetch"
_SAME = READING, TOKENIZING


class LoadingFunction(Struct, frozen=True):
    """A function of the program in which most of loading is spent.

    Attributes:
        name: of it, "mel_filters".
        place: where it begins.
        of: the outermost function that loads, of which it is a part; None: itself.
        part: its share of loading, with what it calls.
        own: the same without what reads, tokenizes and collates.
        draws: whether it draws random numbers, or what it calls does.
    """

    name: str
    place: str
    of: str | None
    part: float
    own: float
    draws: bool

    @property
    def told(self) -> str:
        """In a sentence."""
        return f"{self.name}() of {self.of}" if self.of else f"{self.name}()"


class LoadingLines(Struct, frozen=True):
    """Where loading takes its time; shares are of the time in fetches.

    Attributes:
        kinds: share of each kind of work, as far as there is some.
        place: the line with most of it.
        call: the function of a library that this line calls, "numpy.read_array"; None: nothing tells.
        part: the share of this line.
        function: what is named in place of the line: nothing tells what that does.
    """

    kinds: dict[str, float]
    place: str
    call: str | None
    part: float
    function: LoadingFunction | None = None

    @property
    def kind(self) -> str:
        """The kind of most of the work; "other" if there is none."""
        return next((kind for kind, part in self.kinds.items() if part >= _MOST), OTHER)

    @property
    def told(self) -> str:
        """What is named, in a sentence: the line with what it calls, or a function."""
        if self.function is not None:
            return f"{self.place} {self.function.told}"
        return f"{self.place} {self.call}()" if self.call else self.place

    @property
    def takes(self) -> str:
        """It and its share, as a clause."""
        part = self.part if self.function is None else self.function.part
        return f"{self.told} takes {share(part, 1.0)} of loading"

    def left(self, unknown: float) -> float:
        """What is left of loading if all that stays the same is kept; `unknown` is left of what may not.

        A batch is put together from what was kept as before, and beside a function that is named nothing else gets cheaper.
        """
        same = sum(self.kinds.get(kind, 0.0) for kind in _SAME)
        other = 1.0 - same - self.kinds.get(COLLATING, 0.0)
        return 1.0 - same - (1.0 - unknown) * (other if self.function is None else self.function.own)


def loading_lines(run: Run) -> LoadingLines | None:
    """The lines of the program that load its batches, by the samples that capture took in fetches; None if they are too few."""
    piped = is_pipelined(run)
    samples, others = (_of_workers(run), []) if piped else _in_fetches(run)
    stacks = None if piped else fetching_function(run)
    if len(samples) < _FEWEST:
        return None if stacks is None else LoadingLines({}, stacks.spot.place, None, 0.0, _by_stacks(stacks, [], 1.0))
    by_line: dict[str, list[FrameSample]] = {}
    for sample in samples:
        by_line.setdefault(sample.place, []).append(sample)
    written = {package for package, function in map(_called, samples) if _WRITES.search(function)}
    kind_of = {place: _kind(here, written) for place, here in by_line.items()}
    kinds = Counter(kind_of[sample.place] for sample in samples)
    top = max(by_line, key=lambda place: len(by_line[place]))
    parts = {kind: count / len(samples) for kind, count in kinds.most_common()}
    lines = LoadingLines(parts, top, _call(by_line[top]), len(by_line[top]) / len(samples))
    own = 1.0 - sum(part for kind, part in parts.items() if kind in (*_SAME, COLLATING))
    function = _function(samples, others, kind_of) if stacks is None else _by_stacks(stacks, samples, own)
    stands_out = lines.part >= _MOST and stacks is None
    if function is None or lines.kind not in (RANDOM, OTHER) or (stands_out and lines.call is not None):
        return lines
    return replace(lines, place=top if stands_out else function.place, function=function)


def _by_stacks(found: FetchingFunction, samples: list[FrameSample], own: float) -> LoadingFunction:
    """The function that stacks name, at most `own` of loading; what it draws is known as far as samples saw it."""
    inner: set[UserFunction] = set()
    for sample in samples:
        at = next((i for i, function in enumerate(sample.within) if function.place == found.spot.place), -1)
        inner |= set(sample.within[: at + 1])
    name = found.spot.function or found.spot.place
    draws = any(function.draws for function in inner)
    return LoadingFunction(name, found.spot.place, found.of, found.part, min(found.part, own), draws)


def _function(samples: list[FrameSample], others: list[FrameSample], kind_of: dict[str, str]) -> LoadingFunction | None:
    """The innermost function that most of these samples are in, and hardly any of the others; None if no function has most."""
    within: dict[UserFunction, list[FrameSample]] = {}
    for sample in samples:
        for function in sample.within:
            within.setdefault(function, []).append(sample)
    apart = Counter(function for sample in others for function in sample.within)
    most = [
        function
        for function, inside in within.items()
        if len(inside) >= _MOST * len(samples) and apart[function] <= _APART * len(inside)
    ]
    if not most:
        return None
    found = min(most, key=lambda one: (len(within[one]), within[one][0].within.index(one)))
    inside = within[found]
    outermost = Counter(sample.within[-1] for sample in inside if sample.within[-1] in most).most_common(1)
    own = sum(kind_of[sample.place] not in (*_SAME, COLLATING) for sample in inside)
    return LoadingFunction(
        found.name,
        found.place,
        next((one.name for one, _ in outermost if one != found), None),
        len(inside) / len(samples),
        own / len(samples),
        any(function.draws for sample in inside for function in sample.within[: sample.within.index(found) + 1]),
    )


def _of_workers(run: Run) -> list[FrameSample]:
    """They load: the training thread only waits in its fetches."""
    return list(run.facts.worker_frames) if run.facts is not None else []


def _in_fetches(run: Run) -> tuple[list[FrameSample], list[FrameSample]]:
    """Samples of the training thread while it fetches a batch, and the others."""
    trace, frames = run.trace, run.facts.frames if run.facts is not None else ()
    if not trace.origin_ns or not frames:
        return [], []
    at = np.array([frame.time_ns - trace.origin_ns for frame in frames], np.int64)
    fetching = run.host.fetch.contains(at)
    inside, outside = np.flatnonzero(fetching).tolist(), np.flatnonzero(~fetching).tolist()
    return [frames[i] for i in inside], [frames[i] for i in outside]


def _kind(samples: list[FrameSample], written: set[str]) -> str:
    """What one line does: what most of its samples show; `written`: packages that write while samples are loaded."""
    seen = Counter(_kind_of(sample, written) for sample in samples)
    kind, count = seen.most_common(1)[0]
    return kind if count >= _MOST * len(samples) else OTHER


def _called(sample: FrameSample) -> tuple[str, str]:
    """The package and the function that a line calls, "" if none is known."""
    package, _, function = (sample.call or "").rpartition(".")
    return package, function


def _kind_of(sample: FrameSample, written: set[str]) -> str:
    if sample.call == _FETCH:
        return COLLATING
    package, function = _called(sample)
    packages = (package, sample.library or "")
    if any(map(_TOKENIZERS.search, packages)):
        return TOKENIZING
    if any(map(_FORMATS.search, packages)) or _READS.search(function):
        return ENCODED if package in written else READING
    draws = any(map(_DRAWING.search, packages)) or _DRAWS.search(function)
    return RANDOM if draws or any(function.draws for function in sample.within[:1]) else OTHER


def _call(samples: list[FrameSample]) -> str | None:
    named = Counter(sample.call for sample in samples if sample.call is not None)
    return named.most_common(1)[0][0] if named else None
