"""What is no trace is named: by its content, else by its name, with what opens it and one remedy."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sqlite3
import struct
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from mfu_doctor.errors import DoctorError, NotATraceError
from mfu_doctor.inputs.load import load_input
from mfu_doctor.reading import find_traces
from mfu_doctor.reading.other_files import RECORD, not_a_trace

BINARY = bytes(range(256))
EVENT_FILE = struct.pack("<QI", 24, 0) + b"\x09" + bytes(8) + b"\x1a\x0dbrain.Event:2"
SNAPSHOT: dict[str, list[int]] = {"segments": [], "device_traces": []}


def database(*tables: str) -> bytes:
    """An SQLite file with these tables."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for table in tables:
            connection.execute(f"CREATE TABLE {table} (id INTEGER)")
        return connection.serialize()


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, BINARY)
    return out.getvalue()


def tarred(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return out.getvalue()


# A name that tells nothing, unless the name is what tells.
KINDS = [
    ("run.nsys-rep", BINARY, "an Nsight Systems report (.nsys-rep)", "nsys-ui"),
    ("run.qdrep", BINARY, "an Nsight Systems report", "nsys-ui"),
    ("run", database("StringIds", "ENUM_NSYS_EVENT_TYPE"), "an SQLite export of Nsight Systems", "nsys stats"),
    ("run", database("rocpd_op"), "an SQLite database of rocprof", "rocpd"),
    ("run", database("users"), "an SQLite database", "sqlite3"),
    ("run", b"NVR\0" + BINARY, "an Nsight Compute report (.ncu-rep)", "ncu-ui"),
    ("run", EVENT_FILE, "a file of TensorBoard events", "TensorBoard"),
    ("events.out.tfevents.1700000000.host.1.0", BINARY, "a file of TensorBoard events", "TensorBoard"),
    ("run", b"\x0a\x91\x40\x08\x01\x12\x09/host:CPU" + BINARY, "an XPlane profile", "XProf"),
    ("host.xplane.pb", BINARY, "an XPlane profile", "XProf"),
    *[("run", pickle.dumps(SNAPSHOT, protocol=p), "a snapshot of CUDA memory", "memory_viz") for p in (2, 4, 5)],
    ("run", zipped("archive/data.pkl"), "a checkpoint of PyTorch", "torch.load"),
    ("run", pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2), "a checkpoint of PyTorch", "torch.load"),
    ("model.pth", BINARY, "a checkpoint of PyTorch", "torch.load"),
    ("run", struct.pack("<Q", 90) + b'{"weight": {}}', "a file of weights (safetensors)", "safetensors"),
    ("run", b"GGUF\x03\0\0\0", "a file of weights (GGUF)", "llama.cpp"),
    ("run", b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", "an ONNX model", "Netron"),
    ("model.onnx", BINARY, "an ONNX model", "Netron"),
    ("run.pftrace", BINARY, "a Perfetto trace in protobuf", "ui.perfetto.dev"),
    ("run", b"\xfb)\x03\xfa\x01~\xe9" + BINARY, "a profile of cProfile", "pstats"),
    ("run", b"PERFILE2" + BINARY, "a recording of Linux perf", "perf report"),
    ("run", b'{"$schema": "https://www.speedscope.app/file-format-schema.json"}', "a profile of speedscope", "speedscope"),
    ("run", b'{"schema": "1.0.2-chakra", "pid": 1, "nodes": []}', "an execution graph of PyTorch without times", ""),
    ("run", b'{"cells": [], "nbformat": 4}', "a notebook", ""),
    ("run", b"<!DOCTYPE html>\n<html>", "a page of HTML", ""),
    ("run", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of git-lfs", ""),
    ("run", b"\x89PNG\r\n\x1a\n" + BINARY, "a picture", ""),
    ("run", b"%PDF-1.7\n" + BINARY, "a PDF document", ""),
    ("run", b"\x7fELF\x02\x01" + BINARY, "a program or library", ""),
    ("run", b"\x93NUMPY\x01\0" + BINARY, "an array of NumPy", ""),
    ("run", b"\x89HDF\r\n\x1a\n" + BINARY, "an HDF5 file", ""),
    ("run", b"PAR1" + BINARY, "a Parquet file", ""),
    ("kernels.csv", b"step,loss\n1,2\n", "a table (CSV)", ""),
    ("train.py", b"import torch\n", "a program in Python", ""),
    ("run", zipped("trace.json"), "a zip archive", ""),
    ("run", tarred("trace.json"), "a tar archive", ""),
    ("run.tar.gz", gzip.compress(tarred("trace.json"), mtime=0), "a tar archive", ""),
    ("run", b"\x28\xb5\x2f\xfd" + BINARY, "a compressed file", ""),
    ("run", pickle.dumps([1]), "a pickle of Python", ""),
    ("run", b'{"loss": 1}', "JSON without a list of profiler events (traceEvents)", ""),
    ("run", b"step,loss\n1,2\n", "plain text", ""),
    ("run", b"[[1, 2], [3, 4]]", "JSON without a list of profiler events (traceEvents)", ""),
    ("run.log", b"[2026-01-01] step 1\n", "plain text", ""),
    ("run", BINARY, "a binary file of an unknown kind", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "what", "opener"), KINDS)
def test_the_kind_of_a_file_is_named(tmp_path: Path, name: str, data: bytes, what: str, opener: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(NotATraceError) as caught:
        load_input(path)
    said = caught.value
    assert said.problem.startswith(f"{name} is {what}")
    assert ("opens it)" in said.problem) == bool(opener)
    assert opener in said.problem
    assert said.remedy
    assert "\n" not in str(said)
    assert said.exit_code == 2


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("model.pt", b"<html>404 Not Found</html>", "a page of HTML"),
        ("trace.json", zipped("archive/data.pkl"), "a checkpoint of PyTorch"),
        ("run.nsys-rep", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs"),
        ("model.onnx", b"no such key\n", "plain text"),
        ("<stdin>", b'{"schema": 1, "tool": "mfu-doctor"}', "a report of mfu-doctor"),
        ("kernels.csv", BINARY, "a binary file of an unknown kind"),
    ],
)
def test_content_counts_more_than_a_name(name: str, data: bytes, what: str) -> None:
    assert not_a_trace(name, data).problem.startswith(f"{name} is {what}")


@pytest.mark.parametrize("end", [0, 1, 2, 3])
def test_text_is_told_even_where_a_character_is_cut(end: int) -> None:
    text = ("x" * end + "\N{SNOWMAN}" * 5000).encode()
    assert "plain text" in not_a_trace("run", text).problem


@pytest.mark.parametrize("data", [b"", b"  \n", b"\xef\xbb\xbf", bytes(100)])
def test_an_empty_file_is_called_empty_whatever_its_name(data: bytes) -> None:
    assert not_a_trace("run.nsys-rep", data).problem == "run.nsys-rep is empty"


def test_a_directory_of_another_profiler_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "run.nsys-rep").touch()
    with pytest.raises(NotATraceError, match=r"run\.nsys-rep is an Nsight Systems report \(\.nsys-rep\); record"):
        find_traces(tmp_path)


@pytest.mark.parametrize("extra", [{}, {"viztracer_metadata": {"version": "1"}}])
def test_a_trace_of_another_tool_is_told_from_one_without_operators(tmp_path: Path, extra: dict[str, object]) -> None:
    path = tmp_path / "run.json"
    event = {"ph": "X", "name": "main", "cat": "FEE", "ts": 1, "dur": 2, "pid": 1, "tid": 1}
    path.write_text(json.dumps({"traceEvents": [event], **extra}))
    with pytest.raises(DoctorError, match=r"run\.json is a Chrome trace without any event of PyTorch") as caught:
        load_input(path)
    assert caught.value.remedy == RECORD
    assert caught.value.exit_code == 2
