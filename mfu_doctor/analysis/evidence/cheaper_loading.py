"""How loading gets cheaper, by what takes most of it: in words, and what decides how much."""

from __future__ import annotations

from mfu_doctor.analysis.evidence.loader_cores import CHEAPER_LOADING
from mfu_doctor.analysis.evidence.loading import Reading
from mfu_doctor.analysis.evidence.loading_lines import (
    COLLATING,
    ENCODED,
    OTHER,
    RANDOM,
    READING,
    TOKENIZING,
    LoadingLines,
)
from mfu_doctor.quantities import size_of
from mfu_doctor.result.findings import Ends

CHEAPER_ENDS = Ends(low="it gets a quarter cheaper", high="a batch costs no time on the CPU any more")
_KEPT_ENDS = Ends(low="the rest of loading hardly gets cheaper", high="all of a loaded sample can be kept")
# By what the samples of the training thread show.
_REMEDIES = {
    READING: "read and decode it once, in __init__, and keep it (arrays in .npy files: np.load(file, mmap_mode='r'))",
    TOKENIZING: "tokenize once before training, and keep the ids",
    COLLATING: "take whole batches out of tensors: DataLoader(..., sampler=BatchSampler(...), batch_size=None)",
    ENCODED: "it decodes what is encoded there: do both to smaller or fewer samples, or keep the result if it does not change",
    RANDOM: "make the random part cheaper (on whole batches, on tensors), and keep what comes before it",
}
_UNKNOWN = "make it cheaper, or do it once and keep it, if it is the same each time"
_FUNCTION = "make it cheaper, or compute it once and keep it, if its arguments are the same"
_KEPT_OPEN = (
    "in __getitem__ of the dataset: read each file once and keep it, or store only what batches take of it (smaller samples, "
    "arrays in .npy files: np.load(file, mmap_mode='r')); or draw the samples of a file one after another"
)


def how_cheaper(lines: LoadingLines | None, again: Reading | None) -> str:
    """How loading gets cheaper, by what takes most of it."""
    if again is not None and (lines is None or lines.kind == OTHER):
        return f"# {_KEPT_OPEN}"
    if lines is None:
        return CHEAPER_LOADING
    if lines.function is not None:
        return f"# {lines.told}: {_REMEDIES[RANDOM] if lines.function.draws else _FUNCTION}"
    kind = lines.kind if lines.kind in _REMEDIES else RANDOM if RANDOM in lines.kinds else OTHER
    return f"# {lines.told}: {_REMEDIES.get(kind, _UNKNOWN)}"


def cheaper_ends(lines: LoadingLines | None, again: Reading | None) -> Ends:
    """What decides how much of loading goes."""
    if lines is not None and lines.function is not None and not stays_known(lines, again):
        return Ends(low=CHEAPER_ENDS.low, high=f"{lines.function.name}() costs nothing any more")
    return _KEPT_ENDS if stays_known(lines, again) else CHEAPER_ENDS


def stays_known(lines: LoadingLines | None, again: Reading | None) -> bool:
    """Whether what cheaper loading leaves is known, as of what is the same each time."""
    return again is not None if lines is None or lines.kind == OTHER else lines.kind in (READING, TOKENIZING)


def told_of(again: Reading) -> str:
    """What is read for a batch, as a clause."""
    return f"{size_of(again.read)} are read for a batch that has {size_of(again.batch)} at most: most of it is dropped"
