"""Every page in a browser: it fits a phone, its labels do not overlap, it reports no errors and is not blank."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from dico_tf.cli import committee
from dico_tf.report import comparison, run_page
from tests.committee.generated import pool
from tests.report import generated
from tests.tiers import slow_but

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
HEIGHT = 1500
# The pages forbid scripts, so a page around them measures them: what is wider than the window, and labels that overlap.
MEASURE = """<!doctype html><meta charset="utf-8"><body style="margin:0;display:flex">%s<script>
const faults = [];
function measure(frame) {
  const page = frame.contentDocument, width = frame.contentWindow.innerWidth;
  if (page.documentElement.scrollWidth > width) faults.push(`scrolls at ${width}`);
  for (const chart of page.querySelectorAll("svg.chart")) {
    const box = chart.getBoundingClientRect(), texts = [...chart.querySelectorAll("text")];
    const boxes = texts.map(text => text.getBoundingClientRect());
    if (box.width < 200 || box.height < 80) faults.push(`small chart at ${width}`);
    boxes.forEach((one, n) => {
      if (one.left < box.left - 1 || one.right > box.right + 1 || one.bottom > box.bottom + 1 || one.top < box.top - 1)
        faults.push(`cut off at ${width}: ${texts[n].textContent}`);
      boxes.slice(0, n).forEach((other, m) => {
        const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
        const down = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
        if (across > 1 && down > 4)
          faults.push(`overlap at ${width}: ${texts[n].textContent} | ${texts[m].textContent}`);
      });
    });
  }
  for (const image of page.images) if (!image.naturalWidth) faults.push(`broken image at ${width}: ${image.alt}`);
}
window.onload = () => {
  const frames = [...document.querySelectorAll("iframe")];
  frames.forEach(measure);
  const dark = frames.map(frame => frame.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches);
  console.log("MEASURED " + JSON.stringify({dark, faults}));
};
</script></body>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium")


def written_run(folder):
    generated.run(folder, branches=4, classes=10, epochs=60, names=[f"{generated.ODD} {c}" for c in range(10)], side=80)
    assert run_page.write_page(folder).startswith("report: ")


def written_comparison(folder):
    generated.comparison(folder, missing=1, name=generated.ODD * 2)
    assert comparison.write_page(folder).startswith("report: ")


def written_committee(folder):
    folder.mkdir()
    members = pool(600)
    np.savez(folder / "logits.npz", labels=members.labels, ids=members.ids, **members.logits)
    costs = {name: {"macs": 1e6 * cost.macs} for name, cost in members.costs.items()}
    (folder / "costs.json").write_text(json.dumps(costs))
    words = [f"--logits={folder}/logits.npz", f"--costs={folder}/costs.json", "--percentiles=20", f"--out={folder}"]
    committee.main(["search", *words])


PAGES = {"run": written_run, "comparison": written_comparison, "committee": written_committee}


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """A browser's own folder, for all tests: a new one costs seconds."""
    return tmp_path_factory.mktemp("profile")


def opened(page, folder, profile):
    """Show a page at both widths, light and dark; return (what was measured, messages of the console, pictures)."""
    style = f"border:0;flex:none;height:{HEIGHT}px"
    frames = "".join(
        f'<iframe src="{page.as_uri()}" style="{style};width:{width}px;color-scheme:{scheme}"></iframe>'
        for scheme in SCHEMES
        for width in WIDTHS
    )
    (folder / "measure.html").write_text(MEASURE % frames)
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-extensions",
        "--allow-file-access-from-files", "--enable-logging=stderr", f"--user-data-dir={profile}",
        f"--window-size={2 * sum(WIDTHS)},{HEIGHT}", f"--screenshot={folder / 'screen.png'}",
    ]  # fmt: skip
    command = [BROWSER, *flags, (folder / "measure.html").as_uri()]
    # with the tests' own cache folder, the browser would index the fonts anew
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    (measured,) = [line for line in console if "MEASURED" in line]
    content, _ = json.JSONDecoder().raw_decode(measured[measured.index("{") :].replace('\\"', '"'))
    with Image.open(folder / "screen.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    parts = np.split(pixels, np.cumsum(WIDTHS * 2)[:-1], axis=1)
    return content, [line for line in console if line != measured], parts


@pytest.mark.parametrize("name", slow_but(["run"], PAGES))
def test_a_page_fits_both_widths_without_errors(name, tmp_path, profile):
    PAGES[name](tmp_path / "out")
    measured, console, parts = opened(tmp_path / "out/report.html", tmp_path, profile)
    dark = [scheme == "dark" for scheme in SCHEMES for _ in WIDTHS]
    assert measured == {"dark": dark, "faults": []} and not console
    for part, is_dark in zip(parts, dark, strict=True):
        assert len(np.unique(part.reshape(-1, 3), axis=0)) > 50
        assert (part[:5].mean() < 60) == is_dark  # the margin has the page's colour
