"""From a command to the first mask, as a new user meets it: every verb in a fresh process, with the embedded pair.

    python benchmarks/first_mask.py [--rounds 3] [-o out/first-mask.md]

Prints a Markdown table of the medians. Servers are timed from their start to the answer of the first request; the page in a real browser
without a window, from its start to the first masks shown. Needs the extras ``app`` and ``serve``, the package ``playwright`` and Debian's
``chromium``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from nerveseg.synthetic import bundled

WORDS = "rooster, penguin, sky, sand"
_LISTENING = re.compile(r"http://127\.0\.0\.1:\d+")


def main() -> None:
    """Time every verb, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        image = Path(home) / "pictures" / "scene.png"
        image.parent.mkdir()
        shutil.copy(bundled.scenes()[0].path, image)
        scores = Path(home) / "scores.npz"
        np.savez(scores, scores=np.random.default_rng(0).dirichlet(np.ones(3), (16, 20)).transpose(2, 0, 1).astype(np.float32))
        rows = [line(name, work, given.rounds) for name, work in verbs(Path(home), image, scores).items()]
    table = "\n".join(
        ["| command | seconds to the first mask |", "|---|---|", *rows, "", f"Embedded pair, the median of {given.rounds}.", ""]
    )
    print(table)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(table, "utf-8")


def line(name: str, work: Callable[[], None], rounds: int) -> str:
    """One row: the median of some rounds."""
    taken: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return f"| `{name}` | {statistics.median(taken):.1f} |"


def verbs(home: Path, image: Path, scores: Path) -> dict[str, Callable[[], None]]:
    """Command as the docs have it → what runs it until there is a mask."""
    out = str(home / "out")

    def command(*words: str, mask: str) -> Callable[[], None]:
        def work() -> None:
            shutil.rmtree(out, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "nerveseg", *words, "--recipe", "mini"], check=True, capture_output=True)
            if not (Path(out) / mask).is_file():
                raise SystemExit(f"no mask {mask}")

        return work

    asked = ("--labels", WORDS)
    return {
        "nerveseg segment": command("segment", str(image), *asked, "-o", out, mask="scene.png"),
        "nerveseg segment --click": command("segment", str(image), *asked, "-o", out, "--click", "sky@20,10", mask="scene.png"),
        "nerveseg refine": command("refine", str(scores), str(image), "-o", out, mask="scene.png"),
        "nerveseg batch": command("batch", str(image.parent), out, *asked, mask="scene.png"),
        "nerveseg serve": lambda: served(image),
        "nerveseg app": lambda: shown(image),
    }


@contextmanager
def started(verb: str) -> Iterator[str]:
    """A server on loopback; gives its address once it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nerveseg", verb, "--recipe", "mini", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for said in process.stdout or ():
            found = _LISTENING.search(said)
            if found:
                yield found[0]
                break
        else:
            raise SystemExit(f"nerveseg {verb} ended before it listened")
    finally:
        process.terminate()
        process.wait()


def served(image: Path) -> None:
    """The first label map of the service."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="labels"\r\n\r\n{WORDS}\r\n'.encode(),
        f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="scene.png"\r\n\r\n'.encode() + image.read_bytes() + b"\r\n",
        f"--{mark}--\r\n".encode(),
    ]
    with started("serve") as address:
        heads = {"Content-Type": f"multipart/form-data; boundary={mark}", "Accept": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/segment", b"".join(parts), heads)) as answer:
            json.load(answer)


def shown(image: Path) -> None:
    """The first masks on the page."""
    serial = "document.querySelector('.nv-stage').dataset.serial || '0'"
    with sync_playwright() as play, started("app") as address:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        page.goto(address)
        page.locator(".nv-thumb").first.wait_for()
        page.fill("#words input, #words textarea", WORDS)
        before = page.evaluate(serial)
        page.locator(".nv-file").set_input_files(image)
        page.wait_for_function(f"before => ({serial}) !== before", arg=before, polling=10)
        browser.close()


if __name__ == "__main__":
    main()
