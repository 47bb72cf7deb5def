"""One server process for all capture tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.capture.zygote import Zygote


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Runs programs as processes."""
    pytest.importorskip("torch", reason="torch is not installed")
    with Zygote(tmp_path_factory.mktemp("cache")) as server:
        yield server
