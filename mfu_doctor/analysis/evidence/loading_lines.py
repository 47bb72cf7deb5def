"""What the training thread or the loader's workers do while they load a batch: at which lines, and of what kind their work is.

What is read, decoded or tokenized is the same each time, so that keeping it removes nearly all of it. What draws random numbers
has to be done again, and so has what is decoded after it was encoded there (an augmentation). Of all else only its author knows.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
from msgspec import Struct

from mfu_doctor.analysis.evidence.loading import is_pipelined
from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import FrameSample
from mfu_doctor.quantities import share

READING, TOKENIZING, COLLATING, RANDOM, OTHER = "reading", "tokenizing", "collating", "random", "other"
ENCODED = "encoded"  # read from what was written while the sample was loaded

_FEWEST = 10  # samples in fetches: the share of a half is then known to a third of itself
_MOST = 0.5  # of the samples, from which on a line or a kind is named
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


class LoadingLines(Struct, frozen=True):
    """Where loading takes its time; shares are of the time in fetches.

    Attributes:
        kinds: share of each kind of work, as far as there is some.
        place: the line with most of it.
        call: the function of a library that this line calls, "numpy.read_array"; None: nothing tells.
        part: the share of this line.
    """

    kinds: dict[str, float]
    place: str
    call: str | None
    part: float

    @property
    def kind(self) -> str:
        """The kind of most of the work; "other" if there is none."""
        return next((kind for kind, part in self.kinds.items() if part >= _MOST), OTHER)

    @property
    def told(self) -> str:
        """The line in a sentence, with what it calls."""
        return f"{self.place} {self.call}()" if self.call else self.place

    @property
    def takes(self) -> str:
        """The line and its share, as a clause."""
        return f"{self.told} takes {share(self.part, 1.0)} of loading"

    def left(self, unknown: float) -> float:
        """What is left of loading if all that stays the same is kept; `unknown` is left of what may not.

        A batch is put together from what was kept as before.
        """
        same = self.kinds.get(READING, 0.0) + self.kinds.get(TOKENIZING, 0.0)
        collated = self.kinds.get(COLLATING, 0.0)
        return collated + (1.0 - same - collated) * unknown


def loading_lines(run: Run) -> LoadingLines | None:
    """The lines of the program that load its batches, by the samples that capture took in fetches; None if they are too few."""
    samples = _of_workers(run) if is_pipelined(run) else _in_fetches(run)
    if len(samples) < _FEWEST:
        return None
    by_line: dict[str, list[FrameSample]] = {}
    for sample in samples:
        by_line.setdefault(sample.place, []).append(sample)
    written = {package for package, function in map(_called, samples) if _WRITES.search(function)}
    kinds: Counter[str] = Counter()
    for here in by_line.values():
        kinds[_kind(here, written)] += len(here)
    top = max(by_line, key=lambda place: len(by_line[place]))
    parts = {kind: count / len(samples) for kind, count in kinds.most_common()}
    return LoadingLines(parts, top, _call(by_line[top]), len(by_line[top]) / len(samples))


def _of_workers(run: Run) -> list[FrameSample]:
    """They load: the training thread only waits in its fetches."""
    return list(run.facts.worker_frames) if run.facts is not None else []


def _in_fetches(run: Run) -> list[FrameSample]:
    trace, frames = run.trace, run.facts.frames if run.facts is not None else ()
    if not trace.origin_ns or not frames:
        return []
    at = np.array([frame.time_ns - trace.origin_ns for frame in frames], np.int64)
    return [frames[i] for i in np.flatnonzero(run.host.fetch.contains(at)).tolist()]


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
    return RANDOM if any(map(_DRAWING.search, packages)) or _DRAWS.search(function) else OTHER


def _call(samples: list[FrameSample]) -> str | None:
    named = Counter(sample.call for sample in samples if sample.call is not None)
    return named.most_common(1)[0][0] if named else None
