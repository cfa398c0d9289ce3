"""From ``nerveseg app`` to the first mask, and what a visitor waits for after that, in a real browser without a window.

    python benchmarks/app.py [--rounds 3]

Prints a Markdown table; medians. Needs the extra ``app``, the package ``playwright`` and Debian's ``chromium``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from nerveseg.synthetic import bundled

_WORDS = "rooster, penguin, sky, sand"
_FIELD = "#words input, #words textarea"
_SERIAL = "document.querySelector('.nv-stage').dataset.serial || '0'"


def _until_shown(page: Page, act: Callable[[], Any]) -> float:
    before = page.evaluate(_SERIAL)
    started = time.perf_counter()
    act()
    page.wait_for_function(f"before => ({_SERIAL}) !== before", arg=before, polling=10)
    return time.perf_counter() - started


def _turn(page: Page, value: str) -> None:
    page.locator("#alpha input[type=number]").fill(value)
    page.locator("#alpha input[type=number]").press("Enter")


def _click(page: Page) -> float:
    page.locator(".nv-pick", has_text="sand").first.click()
    box = page.locator(".nv-canvas").bounding_box()
    if box is None:
        raise RuntimeError("no image is shown")
    return _until_shown(page, lambda: page.mouse.click(box["x"] + 40, box["y"] + 40))


def _visit(page: Page, address: str, image: Path, name: str, times: dict[str, list[float]]) -> None:
    started = time.perf_counter()
    page.goto(address)
    page.locator(".nv-thumb").first.wait_for()
    times.setdefault("the page is there", []).append(time.perf_counter() - started)
    page.fill(_FIELD, _WORDS)
    file = page.locator(".nv-file")
    times.setdefault(f"{name}: drop to masks", []).append(_until_shown(page, lambda: file.set_input_files(image)))
    for value in ("0.9", "0.95"):
        times.setdefault(f"{name}: α turned to masks", []).append(_until_shown(page, lambda value=value: _turn(page, value)))
    times.setdefault(f"{name}: first click to masks", []).append(_click(page))
    times.setdefault(f"{name}: undone to masks", []).append(_until_shown(page, lambda: page.click(".nv-undo")))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    chromium = shutil.which("chromium")
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        small, large = bundled.scenes()[1].path, Path(folder) / "large.jpg"
        with Image.open(small) as pil_image:
            pil_image.convert("RGB").resize((3200, 4000)).save(large, quality=90)
        for _ in range(rounds):
            started = time.perf_counter()
            command = [sys.executable, "-m", "nerveseg", "app", "--recipe", "mini", "--port", "0", "--offline"]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            try:
                line = process.stderr.readline() if process.stderr else ""
                address = re.findall(r"http://\S+:\d+", line)[0]
                times.setdefault("command to address", []).append(time.perf_counter() - started)
                browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                for image, name in ((small, "160 × 128"), (large, "4000 × 3200")):
                    page = browser.new_page(viewport={"width": 1280, "height": 860})
                    _visit(page, address, image, name, times)
                browser.close()
            finally:
                process.terminate()
                process.wait()
    print("| from … to | seconds |\n|---|---|")
    for name, found in times.items():
        print(f"| {name} | {statistics.median(found):.2f} |")


if __name__ == "__main__":
    main()
