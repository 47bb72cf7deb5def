"""What a block leaves behind: its one file, and nothing else, wherever it had to write or patch meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")
from torch.utils.data import dataloader

import mfu_doctor
from mfu_doctor.capture.loop.hooks import Hooks


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, a fresh one."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_no_uncompressed_window_stays_in_the_temporary_directory(tmp_path: Path, scratch: Path) -> None:
    """A window is hundreds of megabytes before it is packed: a cluster's /tmp would be full after a few runs."""
    with mfu_doctor.profile(tmp_path / "out" / "run.json.gz", print_report=False):
        pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json.gz"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(("rank", "speaks"), [(None, True), ("0", True), ("1", False)])
def test_one_rank_of_a_job_shows_the_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: str | None,
    speaks: bool,
) -> None:
    """Eight ranks would otherwise write eight reports over each other."""
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with mfu_doctor.profile(tmp_path / "run.json.gz", print_report=True) as doctor:
        pass
    assert doctor.path is not None
    assert (capsys.readouterr().err != "") == speaks


class Quiet:
    """Listens and does nothing."""

    def fetch_begins(self, iterator: object) -> None: ...

    def fetch_ends(self, iterator: object, batch: object, wait_ns: int, *, exhausted: bool) -> None: ...

    def optimizer_stepped(self, optimizer: object) -> None: ...

    def follows(self) -> bool:
        return False

    def module_called(self, module: object) -> None: ...

    def backward_begins(self, roots: object, *, differentiable: bool) -> None: ...

    def backward_ended(self, gradients: object, site: Callable[[], tuple[str, int]]) -> None: ...

    def autocast_entered(self, region: object) -> None: ...

    def collected(self, start_ns: int, duration_ns: int, generation: int, *, asked: bool) -> None: ...


@pytest.fixture
def fetching() -> Iterator[Any]:
    """The class whose method is patched; its own method is put back afterwards."""
    owner: Any = dataloader._BaseDataLoaderIter
    own = owner.__next__
    yield owner
    owner.__next__ = own


def test_a_patch_that_the_user_put_over_ours_stays(fetching: Any) -> None:
    """Some other tool patched the loader inside the block: taking ours off must not take off theirs."""
    own = fetching.__next__
    hooks = Hooks(Quiet())
    hooks.install()
    ours = fetching.__next__

    def theirs(iterator: Any) -> Any:
        return ours(iterator)

    fetching.__next__ = theirs
    hooks.remove()
    assert fetching.__next__ is theirs
    again = Hooks(Quiet())
    fetching.__next__ = own
    again.install()
    again.remove()
    assert fetching.__next__ is own
