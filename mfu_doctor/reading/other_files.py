"""What a file is that is no trace: its kind, what opens it, and how to come from it to a trace.

People pass the file that they have: a report of another profiler, a checkpoint, an archive. A sentence that names it saves them a
search. What the file contains decides; its name counts only where the content does not tell.
"""

from __future__ import annotations

import re

from msgspec import Struct

from mfu_doctor.errors import NotATraceError

RECORD = "record the run with mfu-doctor run train.py, or export a trace of it with torch.profiler"
EXPORT = "pass a file written by torch.profiler's export_chrome_trace, plain or gzipped"
_UNPACK = "unpack it and pass the trace in it (.json or .json.gz)"
_REPORT = "pass its path, so that it is read as a report"
_DOWNLOAD = "fetch the file itself with git lfs pull"
_MODEL = "record a run of the model with mfu-doctor run train.py, or export a trace of it with torch.profiler"
_TIMELINE = "pass the file of the run's export_chrome_trace instead"
# An object, or a list that is not one of objects; a line of a log may begin with "[2026-".
_OTHER_JSON = r"\s*(\{|\[\s*(\[|\"|null|true|false|-?\d[\d.eE+]*\s*[,\]]))"
_LIST_OF_EVENTS = re.compile(rb"\s*\[\s*(\{|\]|$)")
# What may stand before a document: a byte order mark, white space, an unwritten block.
BLANK = b"\xef\xbb\xbf \t\r\n\0"
_NEVER = r"(?!)"
_TEXT_HEAD = 1 << 12  # bytes that show whether a file is text


class Kind(Struct, frozen=True):
    """A kind of file that is no trace.

    Attributes:
        what: with its article, and in parentheses how its name ends.
        content: how it begins, a pattern over bytes.
        name: how it is named, a pattern over the name in lower case.
        opener: what opens it; empty: nothing to say.
        remedy: how to come to a trace.
        is_text: whether it is text: a name of another kind tells nothing then.
    """

    what: str
    content: str = _NEVER
    name: str = _NEVER
    opener: str = ""
    remedy: str = RECORD
    is_text: bool = False

    @property
    def is_profile(self) -> bool:
        """Whether it is what another profiler wrote: the run can be recorded again."""
        return bool(self.opener) and self.remedy == RECORD

    def begins(self, head: bytes) -> bool:
        """Whether a file that begins so is of this kind."""
        return re.match(self.content.encode(), head, re.DOTALL) is not None

    def is_named(self, name: str) -> bool:
        """Whether a file of this name is of this kind."""
        return re.search(self.name, name.lower()) is not None


# Told by what they contain, else by their names.
_KINDS = (
    Kind("an SQLite export of Nsight Systems (.sqlite)", r"SQLite format 3\0.*(ENUM_NSYS_|TARGET_INFO_)",
         opener="nsys stats"),
    Kind("an SQLite database of rocprof (.db)", r"SQLite format 3\0.*rocpd_", opener="rocpd"),
    Kind("an Nsight Systems report (.nsys-rep)", name=r"\.(nsys-rep|qdrep|qdstrm)$", opener="nsys-ui"),
    Kind("an Nsight Compute report (.ncu-rep)", r"NVR\0", r"\.ncu-(rep|report)$", "ncu-ui"),
    Kind("a file of TensorBoard events (tfevents)", r".{12}\x09.{8}\x1a.brain\.Event", r"tfevents", "TensorBoard"),
    Kind("an XPlane profile of TensorFlow or JAX (.xplane.pb)",
         r"\x0a.{0,64}(/host:|/device:|Task Environment)", r"\.xplane\.pb$", "XProf (TensorBoard's profile plugin)"),
    Kind("a snapshot of CUDA memory (torch.cuda.memory)", r"\x80[\x02-\x05].{0,24}segments",
         r"snapshot.*\.(pickle|pkl)$", "pytorch.org/memory_viz"),
    Kind("a checkpoint of PyTorch (.pt)", r"PK\x03\x04.{26,64}/data\.pkl|\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19",
         r"\.(pt|pth|ckpt)$", "torch.load", _MODEL),
    Kind("a file of weights (safetensors)", r".{6}\0\0\{\s*\"", r"\.safetensors$", "safetensors", _MODEL),
    Kind("a file of weights (GGUF)", r"GGUF", r"\.gguf$", "llama.cpp", _MODEL),
    Kind("an ONNX model (.onnx)", r"\x08[\x01-\x20]\x12[\x01-\x7f][\x20-\x7e]+\x1a", r"\.onnx$", "Netron", _MODEL),
    Kind("a Perfetto trace in protobuf (.pftrace)", name=r"\.(pftrace|perfetto-trace|perfetto|proto)$",
         opener="ui.perfetto.dev"),
    Kind("a profile of cProfile (.prof)", r"[{\xfb]([)\xa9]\x03|[(\xa8]\x03\0\0\0)", r"\.(prof|pstats)$", "pstats or snakeviz"),
    Kind("a recording of Linux perf (perf.data)", r"PERFILE2", opener="perf report"),
    Kind("a profile of speedscope", r"\{.{0,4096}speedscope\.app/file-format-schema", r"\.speedscope\.json$",
         "speedscope.app", is_text=True),
    Kind("an execution graph of PyTorch without times (ExecutionTraceObserver)",
         r"\{\s*\"schema\"\s*:\s*\"[^\"]*\".{0,200}\"(pid|nodes)\"\s*:", remedy=_TIMELINE, is_text=True),
    Kind("a notebook (.ipynb)", r"\{.*\"nbformat\"\s*:", r"\.ipynb$", is_text=True),
    Kind("a report of mfu-doctor", r"\{.{0,4096}\"tool\"\s*:\s*\"mfu-doctor\"", remedy=_REPORT, is_text=True),
    Kind("a page of HTML", r"\s*<(!doctype html|!DOCTYPE html|html|HTML)", r"\.html?$", "",
         "pass the trace, or a page written by -o report.html", is_text=True),
    Kind("a pointer of git-lfs", r"version https://git-lfs\.github\.com/", remedy=_DOWNLOAD,
         is_text=True),
    Kind("a picture", r"\x89PNG\r\n|\xff\xd8\xff|GIF8|RIFF....WEBP", r"\.(png|jpe?g|gif|webp)$"),
    Kind("a PDF document", r"%PDF-", r"\.pdf$"),
    Kind("a program or library", r"\x7fELF|MZ.\0|\xcf\xfa\xed\xfe", r"\.(so|exe|dll|dylib)$"),
    Kind("an array of NumPy (.npy)", r"\x93NUMPY", r"\.np[yz]$"),
    Kind("an HDF5 file", r"\x89HDF\r\n", r"\.(h5|hdf5)$"),
    Kind("a Parquet file", r"PAR1", r"\.parquet$"),
    Kind("a table (CSV)", name=r"\.[ct]sv$", is_text=True),
    Kind("a program in Python (.py)", name=r"\.py$", remedy="run it with mfu-doctor run, and pass the trace",
         is_text=True),
)  # fmt: skip

# What a container holds is not known: asked last, where the name did not tell either.
_CONTAINERS = (
    Kind("an SQLite database", r"SQLite format 3\0", opener="sqlite3"),
    Kind("a zip archive", r"PK\x03\x04|PK\x05\x06", remedy=_UNPACK),
    Kind("a tar archive", r".{257}ustar", remedy=_UNPACK),
    Kind("a compressed file (zstd, bzip2, xz, lz4 or 7z)",
         r"\x28\xb5\x2f\xfd|BZh[1-9]1AY|\xfd7zXZ\0|\x04\x22\x4d\x18|7z\xbc\xaf", remedy=_UNPACK),
    Kind("a pickle of Python", r"\x80[\x02-\x05]"),
    Kind("JSON without a list of profiler events (traceEvents)", _OTHER_JSON, remedy=EXPORT, is_text=True),
)  # fmt: skip
_TEXT = Kind("plain text", remedy=EXPORT, is_text=True)
_UNKNOWN = Kind("a binary file of an unknown kind", remedy=EXPORT)


def _known_kind(head: bytes, name: str) -> Kind | None:
    """The kind of a file that is no trace, by its first bytes, else by its name; None if neither tells."""
    by_content = next((kind for kind in _KINDS if kind.begins(head)), None)
    if by_content is not None:
        return by_content
    is_text = _is_text(head)
    return next((kind for kind in _KINDS if kind.is_text == is_text and kind.is_named(name)), None)


def kind_by_name(name: str) -> Kind | None:
    """The kind of a file that is no trace, by its name alone."""
    return next((kind for kind in _KINDS if kind.is_named(name)), None)


def not_a_trace(label: str, head: bytes) -> NotATraceError:
    """The error that says what a file is.

    Args:
        label: its name.
        head: its first bytes, unpacked.
    """
    if not head.strip(BLANK):
        return NotATraceError(f"{label} is empty", EXPORT)
    kind = _known_kind(head, label) or next((kind for kind in _CONTAINERS if kind.begins(head)), None)
    return _error_of(label, kind or (_TEXT if _is_text(head) else _UNKNOWN))


def is_list_of_events(head: bytes) -> bool:
    """Whether a file that begins with a bracket may be a bare list of events."""
    return _LIST_OF_EVENTS.match(head.lstrip(BLANK)) is not None


def _error_of(label: str, kind: Kind) -> NotATraceError:
    """The error for a file of this kind."""
    opener = f" ({kind.opener} opens it)" if kind.opener else ""
    return NotATraceError(f"{label} is {kind.what}, not a torch.profiler trace{opener}", kind.remedy)


def _is_text(head: bytes) -> bool:
    """Whether the bytes are UTF-8 without control characters; a character may be cut at their end."""
    start = head[:_TEXT_HEAD]
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", start):
        return False
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(start) - 3 and len(head) > _TEXT_HEAD
    return True
