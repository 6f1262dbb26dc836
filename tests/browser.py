"""A page in a real browser: what it logs, how wide it is, how well its text is to be read; and a picture of it.

Chromium without a window. Where it lacks, it is installed where a test must not be skipped; else its tests skip.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.testbed.engine import NEED

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_WITHIN_S = 60.0
_INSTALL_S = 600.0
SCHEMES = {"dark": 0, "light": 1}  #: as the engine's own setting has them

#: Left behind in the page's copy: each text's contrast to what is behind it (WCAG 2.2, "Contrast (Minimum)"), and more.
_MEASURE = """
<script>
const rgba = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
function behind(node) {
  for (; node; node = node.parentElement) {
    const colour = rgba(getComputedStyle(node).backgroundColor);
    if (colour[3] > 0) return colour;
  }
  return [255, 255, 255, 1];
}
const faint = [];
const texts = [...document.body.querySelectorAll("*")].filter((node) => !["SCRIPT", "STYLE"].includes(node.tagName)
  && node.getClientRects().length && [...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim()));
for (const node of texts) {
  const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
  const contrast = (a + 0.05) / (b + 0.05);
  if (contrast < 4.5) faint.push(`${node.tagName} ${contrast.toFixed(2)}: ${node.textContent.slice(0, 40)}`);
}
document.documentElement.dataset.measured = JSON.stringify({
  faint, texts: texts.length, page: getComputedStyle(document.body).backgroundColor,
  found: document.getElementById("found")?.textContent ?? "",
  width: innerWidth, scrolls: document.documentElement.scrollWidth - document.documentElement.clientWidth,
});
</script>
"""


class Seen(NamedTuple):
    """A page as it is shown."""

    logged: list[str]  #: errors and warnings of its console
    faint: list[str]  #: texts that are hard to read
    texts: int
    page: str  #: the colour behind all
    found: str  #: what it tells of the item that is asked for
    width: int  #: of the window, in pixels
    scrolls: int  #: so many of them the page is wider


def seen(page: Path, scheme: str, width: int, item: int = 0) -> Seen:
    """A page as somebody sees it who prefers light or dark, in a window so wide, and looks for an item."""
    copy = page.with_name(f"{page.stem}-{scheme}-{width}.html")
    copy.write_text(page.read_text() + _MEASURE)
    done = _chromium(copy, scheme, width, f"#item-{item}", "--dump-dom", "--enable-logging=stderr")
    found = re.search(r'data-measured="([^"]*)"', done.stdout)
    assert found is not None, done.stderr
    told: dict[str, Any] = json.loads(unescape(found[1]))
    return Seen([line for line in done.stderr.splitlines() if ":CONSOLE" in line], **told)


def picture(page: Path, scheme: str, width: int, to: Path, height: int = 2000) -> None:
    """Of what such a window shows, as a PNG."""
    _chromium(page, scheme, width, "", f"--screenshot={to}", height=height)


def _chromium(
    page: Path, scheme: str, width: int, place: str, *more: str, height: int = 900
) -> subprocess.CompletedProcess[str]:
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += [f"--user-data-dir={page.with_suffix('')}-{scheme}-{width}", f"--window-size={width},{height}"]
    flags += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", *more, f"{page.as_uri()}{place}"]
    command = [browser(), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, check=True)


def browser() -> str:
    """Its program. Skips the test where there is none, unless it must not be skipped."""
    if found := next(filter(None, map(shutil.which, _NAMES)), None):
        return found
    if not os.environ.get(NEED):
        pytest.skip("no Chromium is here: apt-get install chromium")
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "chromium"]):
        subprocess.run(["apt-get", *words], check=True, timeout=_INSTALL_S, capture_output=True)
    return "chromium"
