"""Memory of a batch over its images: resident bytes after each tenth, and their slope.

    python benchmarks/batch.py [--images 1000] [--saved 10000] [--format png] [--side 64] [--size 32] [--folder DIR] [-o FILE]

Two cases, each in a process of its own: ``--images`` with the embedded pair, its graph at ``--size`` pixels so that a thousand take
minutes, and ``--saved`` with saved scores, no network. Images are noise of ``--side`` pixels, all different. Memory is read after a
garbage collection. The slope is the median of the slopes of all pairs of samples (Theil and Sen) in the second half of the images: the
first half is what caches take to fill. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

PAGE = os.sysconf("SC_PAGE_SIZE")
WORDS = ("dog", "cat", "grass")
SAVED = {"labels.name": "saved", "graph.name": "none", "walk.name": "none", "calibration.name": "none"}


def main() -> None:
    """Run both cases, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="with the embedded pair; 0: leave that out")
    parser.add_argument("--saved", type=int, default=10000, help="with saved scores; 0: leave that out")
    parser.add_argument("--format", default="png")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="pixels that the graph's network sees")
    parser.add_argument("-o", "--output", type=Path, default=None)
    parser.add_argument("--case", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case is not None:
        print(json.dumps(measure(json.loads(given.case))))
        return
    shared = {"format": given.format, "side": given.side, "size": given.size}
    rows = [
        run({"source": source, "count": count, **shared}) for source, count in (("mini", given.images), ("saved", given.saved)) if count
    ]
    text = table(rows)
    print(text)
    if given.output is not None:
        given.output.write_text(text + "\n", encoding="utf-8")


def run(case: dict) -> dict:
    """One case in a process of its own."""
    found = subprocess.run([sys.executable, __file__, "--case", json.dumps(case)], capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(found.stderr)
    return json.loads(found.stdout.splitlines()[-1])


def measure(case: dict) -> dict:
    """Label the images of a case; resident bytes as they are done."""
    import torch

    from nerveseg.batch import Job, find
    from nerveseg.batch import run as label

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings = {"graph.size": case["size"]}
        make(folder, case)
        if case["source"] == "saved":
            settings = {**SAVED, "labels.path": str(folder / "scores")}
        samples: list[tuple[int, int]] = []
        step = max(1, case["count"] // 200)

        def said(done: int, _: int) -> None:
            if done % step == 0:
                gc.collect()
                samples.append((done, resident()))

        started = time.perf_counter()
        job = Job(WORDS, recipe="mini", settings=settings, format=case["format"], offline=True, threads=1)
        ran = label(job, find(folder / "in"), folder / "out", said=said)
        seconds = time.perf_counter() - started
    if ran.done != case["count"]:
        sys.exit(f"Got {ran.done} of {case['count']} images: {ran.bad[:1]}")
    late = [sample for sample in samples if sample[0] > case["count"] // 2]
    return {**case, "seconds": seconds, "samples": samples, "slope": slope(late), "all": slope(samples[1:])}


def make(folder: Path, case: dict) -> None:
    """Noise, and scores for it where they are asked for."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for name in ("in", "scores"):
        (folder / name).mkdir()
    for number in range(case["count"]):
        pixels = chance.integers(0, 256, (case["side"], case["side"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "in" / f"{number:06d}.png", compress_level=1)
        if case["source"] == "saved":
            scores = chance.dirichlet(np.ones(len(WORDS)), (8, 8)).transpose(2, 0, 1).astype("f4")
            np.savez(folder / "scores" / f"{number:06d}.npz", scores=scores)


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def slope(samples: list[tuple[int, int]]) -> float:
    """Bytes an image: the median over all pairs."""
    return median((y - x) / (b - a) for i, (a, x) in enumerate(samples) for b, y in samples[i + 1 :])


def table(rows: list[dict]) -> str:
    """Markdown: resident MB at each tenth, and slopes."""
    tenths = [f"{tenth * 10} %" for tenth in range(1, 11)]
    lines = [
        "| labels | format | images | seconds an image | " + " | ".join(tenths) + " | slope, second half | slope, all |",
        "|---" * 16 + "|",
    ]
    for row in rows:
        marks = [min(row["samples"], key=lambda one: abs(one[0] - row["count"] * tenth / 10))[1] / 1e6 for tenth in range(1, 11)]
        cells = [row["source"], row["format"], row["count"], f"{row['seconds'] / row['count']:.3f}", *(f"{mark:.1f} MB" for mark in marks)]
        lines.append("| " + " | ".join(map(str, cells)) + f" | {row['slope']:.0f} B | {row['all']:.0f} B |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
