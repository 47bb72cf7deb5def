"""Which traces are the ranks of one run, among those in a directory, a store, or a list of files.

A directory can contain several ranks of one run, the same run recorded again, and other runs. These must never be mixed in one
report. So the newest trace decides which run is meant, and the ranks that were written with it belong to it; all else is named.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.errors import NotATraceError
from mfu_doctor.files import possible
from mfu_doctor.reading import TraceFile, find_traces
from mfu_doctor.reading.layout import name_of_trace, stem_of
from mfu_doctor.reading.remote import RemoteFile, files_at, is_address
from mfu_doctor.reading.source import Source

# Ranks of one run export when their last step is over; a rank that waits for slow storage can be minutes behind.
SAME_RUN_NS = 600 * 1_000_000_000
LISTED = 5  # names of traces in one line
_HEADS_AT_ONCE = 16  # files whose first bytes are fetched at a time: each is a round trip to a store
_HEAD = 1 << 20  # bytes in which Kineto has written who it is; device properties come before
_NAMED = re.compile(r"rank[_-]?(\d{1,9})", re.IGNORECASE)
_TOLD = re.compile(rb'"distributedInfo"\s*:\s*\{[^{}]*?"rank"\s*:\s*(\d{1,9})')
_NUMBER = re.compile(r"\d+")
_WILD = re.compile(r"[*?\[]")
_SUFFIXES = (".json", ".json.gz")
# A span is a time since 1970 in ms, us or ns, depending on torch's version; distinguished by its size.
_SPAN_UNITS = ((10**18, 1), (10**15, 10**3), (10**12, 10**6))


class RankFile(Struct, frozen=True):
    """A trace of a run.

    Attributes:
        location: its path, or its address in a store.
        worker: what its name says of who wrote it.
        written_ns: when it was written, in nanoseconds since 1970.
        size_bytes: its size as it is stored.
        rank: who wrote it; None if neither its first bytes nor its name tell.
    """

    location: str
    worker: str
    written_ns: int
    size_bytes: int
    rank: int | None = None

    @property
    def name(self) -> str:
        """The name of the file."""
        return PurePosixPath(self.location).name


class Found(Struct, frozen=True):
    """The traces of one run, and what else is there.

    Attributes:
        ranks: one trace of each rank in order, or the newest trace if nothing tells whose it is.
        doubles: other traces of these ranks.
        others: names of traces and directories of other runs.
    """

    ranks: tuple[RankFile, ...]
    doubles: tuple[RankFile, ...] = ()
    others: tuple[str, ...] = ()


def find_ranks(sources: Sequence[str | os.PathLike[str]]) -> Found:
    """The ranks of the run that these sources name.

    Args:
        sources: one directory, folder of a store or pattern with `*`: the newest run in it; or several files: these.

    Raises:
        NotATraceError: there is no trace.
    """
    texts = [os.fspath(source) for source in sources]
    where = texts[0]
    if len(texts) == 1 and is_address(where) and not _WILD.search(where):
        return _in_store(where)
    if len(texts) == 1 and not is_address(where) and Path(where).is_dir():
        return _in_folder(where)
    return _as_named(texts)


def names_many(sources: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether these sources may name more than one trace: several, a pattern, a directory, or a folder of a store."""
    texts = [os.fspath(source) for source in sources]
    if len(texts) != 1:
        return True
    where = texts[0]
    if is_address(where):
        return bool(_WILD.search(where)) or not where.endswith(_SUFFIXES)
    return os.path.isdir(where) or (bool(_WILD.search(where)) and not Path(where).exists())  # noqa: PTH112


def folder_of_run(source: str) -> str | None:
    """The folder of a trace if what else is there are other ranks of its run, as far as names and times tell; else None.

    Args:
        source: a trace, or already the folder that it was found in.
    """
    if source == "-" or is_address(source):
        return None
    if Path(source).is_dir():
        return source
    folder = str(Path(source).parent)
    try:
        found = _in_folder(folder)
    except NotATraceError:
        return None
    alike = {_NUMBER.sub("", file.name) for file in found.ranks}
    is_one_run = len(found.ranks) > 1 and len(alike) == 1 and not found.others
    return folder if is_one_run and Path(source).name in {file.name for file in found.ranks} else None


def pattern_of_run(source: str, rank: int | None) -> str | None:
    """A pattern after the name of a trace, if other files have such a name; None if it is alone, or on another machine.

    Args:
        source: the trace of one rank.
        rank: which.
    """
    folder, slash, name = source.rpartition("/")
    numbered = re.sub(rf"(rank[_-]?){rank}(?!\d)", r"\1*", name, flags=re.IGNORECASE)
    pattern = f"{glob.escape(folder)}{slash}{numbered}"
    is_trace = source.endswith((".json", ".json.gz")) and numbered != name and not is_address(source)
    return pattern if is_trace and len(matching(pattern)) > 1 else None


def matching(pattern: str) -> list[str]:
    """What a pattern with `*` matches, in order."""
    try:
        possible(pattern)
    except OSError:
        return []
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns may be absolute


def some(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _in_folder(folder: str) -> Found:
    """The newest run in or below a directory."""
    found = find_traces(folder)
    files = [_of_file(file) for file in (*found.ranks, *found.older)]
    return _newest_run(files, [str(run) for run in found.other_runs])


def _in_store(address: str) -> Found:
    """The newest run at an address: of several folders the one that was written last."""
    runs: dict[str, list[RankFile]] = {}
    listed = files_at(address)
    named = [(file, name_of_trace(PurePosixPath(file.address).name)) for file in listed]
    if not any(told for _, told in named):  # other names than torch gives
        named = [(file, (stem_of(file.address), None)) for file in listed if file.address.endswith(_SUFFIXES)]
    for file, told in named:
        if told is not None:
            runs.setdefault(file.address.rpartition("/")[0], []).append(_of_remote(file, *told))
    if not runs:
        raise NotATraceError(f"{address} contains no trace", "pass a trace or the folder of a run")
    newest = max(runs, key=lambda folder: max(file.written_ns for file in runs[folder]))
    return _newest_run(runs.pop(newest), sorted(runs))


def _as_named(texts: Sequence[str]) -> Found:
    """The traces that were named one by one, or by a pattern: the user says that they belong together."""
    files = [file for text in texts for file in _behind(text)]
    ranked = _with_ranks(files)
    kept: dict[int, RankFile] = {}
    for file in sorted(ranked, key=lambda file: -file.written_ns):
        if file.rank is not None:
            kept.setdefault(file.rank, file)
    ordered = [kept[rank] for rank in sorted(kept)]
    unknown = [file for file in ranked if file.rank is None]  # what is in them may tell
    doubles = [file for file in ranked if file.rank is not None and kept[file.rank] is not file]
    return Found((*ordered, *unknown), tuple(doubles))


def _behind(text: str) -> list[RankFile]:
    """The traces behind one of several sources."""
    if is_address(text):
        return [_of_remote(file, PurePosixPath(file.address).name, None) for file in files_at(text)] or _nothing(text)
    path = Path(text)
    if path.is_dir():
        return list(_in_folder(text).ranks)
    if path.exists() or not _WILD.search(text):
        return [_of_path(path)]
    return [_of_path(file) for file in map(Path, matching(text)) if file.is_file()] or _nothing(text)


def _nothing(text: str) -> list[RankFile]:
    raise NotATraceError(f"nothing matches {text}", "check the pattern")


def _of_file(file: TraceFile) -> RankFile:
    found = file.path.stat()
    return RankFile(str(file.path), file.worker, _written(file.span, found.st_mtime_ns), found.st_size)


def _of_path(path: Path) -> RankFile:
    """A file that was named; if it does not exist, whoever reads it says so."""
    try:
        found = possible(path).stat()
    except OSError:
        return RankFile(str(path), stem_of(path.name), 0, 0)
    return RankFile(str(path), stem_of(path.name), found.st_mtime_ns, found.st_size)


def _of_remote(file: RemoteFile, worker: str, span: int | None) -> RankFile:
    return RankFile(file.address, worker, _written(span, file.written_ns), file.size_bytes)


def _written(span: int | None, modified_ns: int) -> int:
    """When a trace was written, in nanoseconds since 1970: by the span in its name, else by the time of the file."""
    scale = next((scale for least, scale in _SPAN_UNITS if span is not None and span >= least), None)
    return modified_ns if span is None or scale is None else span * scale


def _newest_run(files: Sequence[RankFile], other_runs: Sequence[str]) -> Found:
    """The ranks that were written with the newest trace; that alone if its rank is not known."""
    newest = max(files, key=lambda file: file.written_ns)
    near = [file for file in files if newest.written_ns - file.written_ns <= SAME_RUN_NS]
    ranked = _with_ranks(near)
    own = next(file for file in ranked if file.location == newest.location)
    kept = {own.rank: own}
    for file in sorted(ranked, key=lambda file: -file.written_ns):
        if own.rank is not None and file.rank is not None:
            kept.setdefault(file.rank, file)
    ranks = tuple(kept[rank] for rank in sorted(kept, key=lambda rank: rank or 0))
    taken = {file.location for file in ranks}
    others = [file.name for file in files if file.location not in taken]
    return Found(ranks, others=(*others, *other_runs))


def _with_ranks(files: Sequence[RankFile]) -> list[RankFile]:
    """The files with their ranks, where their first bytes or names tell."""
    if not any(is_address(file.location) for file in files):
        return [replace(file, rank=_rank(file)) for file in files]
    from concurrent.futures import ThreadPoolExecutor  # cannot be imported while Python exits

    with ThreadPoolExecutor(_HEADS_AT_ONCE) as pool:
        ranks = list(pool.map(_rank, files))
    return [replace(file, rank=rank) for file, rank in zip(files, ranks, strict=True)]


def _rank(file: RankFile) -> int | None:
    """The rank by the head of the file's content, else by its name."""
    try:
        told = _told_rank(file.location)
    except NotATraceError:
        told = None  # whoever reads it says what is wrong
    return _named_rank(file.worker) if told is None else told


def _named_rank(name: str) -> int | None:
    """The rank that a name says; None if it says several: of `lora_rank8_rank0` nobody knows which is meant."""
    named = {int(number) for number in _NAMED.findall(name)}
    return named.pop() if len(named) == 1 else None


def _told_rank(location: str) -> int | None:
    head = b""
    with Source(location) as source:
        while len(head) < _HEAD and (more := source.read()):
            head += more
            told = _TOLD.search(head)
            if told is not None:
                return int(told[1])
    return None
