"""Merging of exported windows: bytes in, one valid trace out, whatever Kineto wrote."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.capture.export import merge as merging
from mfu_doctor.capture.export.merge import ID_SHIFT, Export, MergeError, merge

BASE = 1_790_857_026_000_000_000


def exported(path: Path, events: list[str], *, base: int = BASE, footer: bool = False, **keys: Any) -> Export:
    """A file as Kineto lays it out: the base time before the events (2.8 and later) or after them."""
    head = {"schemaVersion": 1, **keys}
    tail: dict[str, Any] = {"traceName": "w.json"}
    (tail if footer else head)["baseTimeNanoseconds"] = base
    text = json.dumps(head, indent=2)[:-2] + ',\n  "traceEvents": [\n' + ",\n".join(events) + "\n  ],"
    path.write_text(text + json.dumps(tail)[1:])
    return Export(path)


def event(name: str, ts: float, **args: Any) -> str:
    rest = "".join(f'"{key}": {value},' for key, value in args.items()).rstrip(",")
    lines = [
        '    "ph": "X",',
        f'    "name": "{name}",',
        f'    "ts": {ts:.3f},',
        '    "dur": 1.500,',
        f'    "args": {{{rest}}}',
    ]
    return "\n".join(["  {", *lines, "  }"])


def merged(*exports: Export, facts: bytes = b'{"version":1}') -> dict[str, Any]:
    target = io.BytesIO()
    merge(list(exports), target, facts, name="out")
    loaded: dict[str, Any] = json.loads(gzip.decompress(target.getvalue()))
    return loaded


def test_ids_of_the_second_window_move_together(tmp_path: Path) -> None:
    ids = {"External id": 7, "Ev Idx": 6, "correlation": 9, "Python parent id": "null", "Record function id": 0}
    one = exported(tmp_path / "1", [event("a", 1, **ids)])
    two = exported(tmp_path / "2", [event("b", 2, **ids)], record_shapes=1)
    trace = merged(one, two)
    first, second = (entry["args"] for entry in trace["traceEvents"])
    assert first == {"External id": 7, "Ev Idx": 6, "correlation": 9, "Python parent id": None, "Record function id": 0}
    assert (second["External id"], second["Ev Idx"], second["correlation"]) == (
        ID_SHIFT + 7,
        ID_SHIFT + 6,
        ID_SHIFT + 9,
    )
    assert (second["Python parent id"], second["Record function id"]) == (None, 0)
    assert trace["record_shapes"] == 1
    assert trace["traceName"] == "out"
    assert trace["mfu_doctor"] == {"version": 1}


def test_a_flow_numbered_0_is_not_tied_to_the_other_windows_flow(tmp_path: Path) -> None:
    """0 is "none" for every id but a flow's; one that would no longer fit 32 bits stays what it is."""
    flow = '  {\n    "ph": "s",\n    "name": "fwdbwd",\n    "id": 0,\n    "ts": 1\n  }'
    large = event("b", 2, **{"External id": ID_SHIFT + 5})
    windows = [exported(tmp_path / str(n), [flow, large]) for n in range(2)]
    first, first_large, second, second_large = merged(*windows)["traceEvents"]
    assert (first["id"], second["id"]) == (0, ID_SHIFT)
    assert first_large["args"] == second_large["args"] == {"External id": ID_SHIFT + 5}


@pytest.mark.parametrize("footer", [False, True])
def test_windows_with_different_base_times_share_the_first(tmp_path: Path, footer: bool) -> None:
    one = exported(tmp_path / "1", [event("a", 5.25)], footer=footer)
    two = exported(tmp_path / "2", [event("b", 7.125)], base=BASE + 1_000_000, footer=footer)
    trace = merged(one, two)
    assert trace["baseTimeNanoseconds"] == BASE
    assert [entry["ts"] for entry in trace["traceEvents"]] == [5.25, 1007.125]


def test_bare_quotes_and_bare_infinities_are_repaired_and_good_names_kept(tmp_path: Path) -> None:
    names = ['we"ird', 'say "a", "b"', r"fine \"quoted\" name", "plain"]
    events = [event(name, i, **{"memory bandwidth (GB/s)": "inf" if i == 0 else 2.0}) for i, name in enumerate(names)]
    trace = merged(exported(tmp_path / "1", events))
    assert [entry["name"] for entry in trace["traceEvents"]] == [
        'we"ird',
        'say "a", "b"',
        'fine "quoted" name',
        "plain",
    ]
    assert trace["traceEvents"][0]["args"]["memory bandwidth (GB/s)"] is None


def test_the_layout_of_older_torch_keeps_its_several_keys_on_a_line(tmp_path: Path) -> None:
    """torch 2.8 writes `"name": "...", "ph": "i", ...` on one line, which looks like a name full of bare quotes."""
    path = tmp_path / "old.json"
    line = '"name": "Iteration Start: PyTorch Profiler", "ph": "i", "s": "g",'
    path.write_text(
        f'{{\n"baseTimeNanoseconds": {BASE},\n"traceEvents": [\n  {{\n    {line}\n    "ts": 1.5\n  }}\n]\n}}\n'
    )
    (kept,) = merged(Export(path))["traceEvents"]
    assert kept == {"name": "Iteration Start: PyTorch Profiler", "ph": "i", "s": "g", "ts": 1.5}


def test_pieces_smaller_than_an_event_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports = [
        exported(tmp_path / str(n), [event(f'e"{i}', i, correlation=i + 1) for i in range(50)]) for n in range(2)
    ]
    whole = merged(*exports)
    monkeypatch.setattr(merging, "_CHUNK", 64)
    assert merged(*exports) == whole
    assert len(whole["traceEvents"]) == 100


def test_a_step_that_was_none_loses_its_mark(tmp_path: Path) -> None:
    one = exported(tmp_path / "1", [event("ProfilerStep#3", 1), event("ProfilerStep#33", 2)])
    trace = merged(Export(one.path, stumps=(3,)))
    assert [entry["name"] for entry in trace["traceEvents"]] == ["mfu_doctor.unfinished_step", "ProfilerStep#33"]


def test_a_cut_export_is_refused_and_no_export_is_an_empty_trace(tmp_path: Path) -> None:
    one = exported(tmp_path / "1", [event("a", 1)])
    one.path.write_bytes(one.path.read_bytes()[:-30])
    with pytest.raises(MergeError):
        one.check()
    assert merged()["traceEvents"] == []
