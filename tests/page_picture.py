"""The picture of the page in the README: `python -m tests.page_picture TRACE`. It needs Chromium and playwright."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mfu_doctor import diagnose
from tests.browser import running_browser
from tests.traces import ROOT

PICTURE = ROOT / "examples" / "report.png"
# To the end of the picture of the plan.
_BOTTOM = "[...document.querySelectorAll('figure, svg')].find(e => e.textContent.includes('lower bound'))"


def draw(trace: str, picture: Path = PICTURE) -> None:
    """Write the picture of this trace's page.

    Args:
        trace: the trace; its name stands in the picture.
        picture: where to.
    """
    with TemporaryDirectory() as folder, running_browser() as browser:
        page_file = Path(folder) / "report.html"
        diagnose(trace).save(page_file)
        context = browser.new_context(viewport={"width": 1100, "height": 900}, device_scale_factor=1.5)
        page = context.new_page()
        page.goto(page_file.as_uri())
        bottom = page.evaluate(f"() => {_BOTTOM}.getBoundingClientRect().bottom")
        page.set_viewport_size({"width": 1100, "height": int(bottom) + 16})
        page.screenshot(path=picture)


if __name__ == "__main__":
    draw(sys.argv[1])
