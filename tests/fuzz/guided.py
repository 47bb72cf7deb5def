"""`python -m tests.fuzz --guided`: the reader under libFuzzer, which keeps what reaches code that nothing reached before.

It needs Atheris (`pip install atheris`), which no test and no check of this project does. It ends with the first input that
escapes as anything else than an error of ours, and writes it into the folder.
"""

from __future__ import annotations

import argparse
import io
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

_LONGEST = 20_000  # bytes of an input
_HUNG_S = 20
_SECONDS_PER_MINUTE = 60


def main() -> None:
    """Run for so many minutes; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    given = parser.parse_args()
    corpus = given.keep / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    try:
        atheris: Any = import_module("atheris")
    except ImportError:
        sys.exit("Atheris is not installed: pip install atheris")
    with atheris.instrument_imports(include=["mfu_doctor.reading"]):
        read_trace = import_module("mfu_doctor.reading.reader").read_trace
    from mfu_doctor.errors import NotATraceError
    from tests.fuzz.crafted import inputs
    from tests.fuzz.seeds import seeds

    for number, data in enumerate([*seeds(), *(data for _, data in inputs())]):
        if len(data) <= _LONGEST:
            (corpus / f"seed{number}").write_bytes(data)

    def read(data: bytes) -> None:
        with suppress(NotATraceError):
            read_trace(io.BytesIO(data))

    limits = {"max_total_time": round(given.minutes * _SECONDS_PER_MINUTE), "max_len": _LONGEST, "timeout": _HUNG_S}
    options = [f"-{name}={value}" for name, value in limits.items()]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={given.keep}/", str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
