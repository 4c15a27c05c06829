"""Speed of the page of the post in Chromium:  python -m benchmarks.explore.browser

First paint: the browser's own time of the first contentful paint, the median of `LOADS` loads of the file. Dragging:
the time from each frame to the next one while the first handle of an instrument follows a circle for `FRAMES` frames,
and the number of frames that were skipped. At 60 frames a second the time is 16.7 ms.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Page, sync_playwright

import flowmaps as fm
from benchmarks.tables import machine
from flowmaps.files import write_json, write_text

OUT = Path(__file__).parent.parent / "results" / "explore"
LOADS, FRAMES, FRAME = 5, 60, 1000 / 60
PAINT = """() => new Promise((found) => new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (entry.name === "first-contentful-paint") found(entry.startTime);
}).observe({ type: "paint", buffered: true }))"""
DRAG = """async ([name, frames]) => {
  const root = document.querySelector(`[data-instrument=${name}]`);
  root.scrollIntoView({ behavior: "instant", block: "center" });
  await instrument(name);
  const handle = root.querySelector(".handle");
  if (!handle) return null;
  const canvas = handle.parentElement.querySelector("canvas");
  const next = () => new Promise((found) => requestAnimationFrame(found));
  const move = (clientX, clientY) =>
    handle.dispatchEvent(new PointerEvent("pointermove", { pointerId: 1, clientX, clientY, bubbles: true }));
  handle.setPointerCapture = () => {};
  handle.hasPointerCapture = () => true;
  await new Promise((found) => setTimeout(found, 8000)); // what instruments compute at the beginning is finished
  const spent = [];
  let before = await next();
  for (let i = 0; i < frames; i++) {
    const box = canvas.getBoundingClientRect();
    const angle = (2 * Math.PI * i) / frames;
    const [x, y] = [0.5 + 0.3 * Math.cos(angle), 0.5 + 0.3 * Math.sin(angle)];
    move(box.left + box.width * x, box.top + box.height * y);
    const now = await next();
    spent.push(now - before);
    before = now;
  }
  return spent;
}"""


def dragged(view: Page, name: str) -> dict[str, float] | None:
    """Times of the frames of an instrument while its first handle moves; None without a handle."""
    spent = view.evaluate(DRAG, [name, FRAMES])
    return spent and {"median_ms": median(spent), "skipped": sum(round(time / FRAME) - 1 for time in spent)}


def measured() -> dict[str, Any]:
    """Measure the page."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = fm.reports.explore(Path(folder) / "explore.html")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1280, "height": 800})
        paints = []
        for _ in range(LOADS):
            view.goto(path.as_uri())
            paints.append(view.evaluate(PAINT))
        names = re.findall(r'data-instrument="(\w+)"', path.read_text())
        frames = {name: found for name in names if (found := dragged(view, name))}
        version = browser.version
        browser.close()
        return {
            "machine": machine(), "browser": f"Chromium {version}", "megabytes": path.stat().st_size / 1e6,
            "first_paint_ms": median(paints), "frames": frames,
        }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    lines = ["| instrument | ms from frame to frame, median | frames skipped of 60 |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {row['median_ms']:.1f} | {row['skipped']} |" for name, row in found["frames"].items()]
    return "\n".join([
        f"First paint after {found['first_paint_ms']:.0f} ms, {found['megabytes']:.1f} MB, {found['browser']}.", "",
        *lines, "", f"{found['machine']}; command: python -m benchmarks.explore.browser", "",
    ])  # fmt: skip


if __name__ == "__main__":
    result = measured()
    write_json(OUT / "browser.json", result)
    write_text(OUT / "browser.md", table(result))
    print(table(result))
