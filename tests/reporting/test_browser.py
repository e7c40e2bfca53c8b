"""In a real browser: no complaint, no sideways scroll on a phone, and sorting works."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from embedcache.reporting.html import render

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",  # CI runs as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
    "--dump-dom",
)
#: Frames the page as a phone shows it, sorts it, and writes down what it sees.
PHONE = """<!doctype html><title>phone</title>
<iframe src="report.html" width="390" height="800"></iframe>
<pre></pre><script>
document.querySelector("iframe").onload = ({target}) => {
  const page = target.contentDocument, view = page.documentElement;
  const names = () => page.querySelectorAll(".leaderboard tbody .name");
  const order = () => [...names()].map((name) => name.textContent);
  const seen = {wide: view.scrollWidth, before: order()};
  const choice = page.querySelector("[data-sort]");
  choice.value = "gap";
  choice.dispatchEvent(new Event("change"));
  seen.after = order();
  target.contentWindow.location.hash = "#confusion-2";
  for (const part of page.querySelectorAll("details")) part.open = true;
  seen.unfolded = view.scrollWidth;
  document.querySelector("pre").textContent = JSON.stringify(seen);
};</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which the browser finds it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def browse(address: str, profile: Path) -> tuple[str, list[str]]:
    """The page's final DOM, and what its console said."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # A browser asks for an icon of its own accord; a file on a disk has none.
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in said if "favicon" not in line]


def test_the_page_on_a_phone(served, study) -> None:
    folder, address = served
    long = "timm:vit_base_patch16_224_with_a_name_longer_than_any_phone_is_wide_" * 2
    values = {
        "first": (0.93, 0.71),
        "second": (0.92, 0.65),
        long: (0.70, 0.69),
        "pixels": (0.6, 0.41),
    }
    (folder / "report.html").write_text(render(study(values=values)), "utf-8")
    (folder / "phone.html").write_text(PHONE, "utf-8")
    dom, console = browse(f"{address}/phone.html", folder / "profile")
    found = re.search(r"<pre>(.+?)</pre>", dom)
    assert found, dom[-500:]
    seen = json.loads(html.unescape(found[1]))
    assert console == []
    assert seen["wide"] <= 390
    assert seen["unfolded"] <= 390
    assert seen["before"] == ["first", long, "second", "pixels"]
    # Change, least loss first: -1, -19, -22, -27 points.
    assert seen["after"] == [long, "pixels", "first", "second"]
