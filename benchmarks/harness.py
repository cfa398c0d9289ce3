"""What the harness costs an image beyond the networks, at 171 classes and 640 × 480: time and memory, each beside its rival.

    python benchmarks/harness.py [--classes 171] [--repeat 15] [--maps 10000] [--threads 2] [--quick] -o out/harness.md
    python benchmarks/fill.py harness out/harness.md

Every row runs in a process of its own, so that its peak of resident memory is its own. Label map → confusion stands beside reading the
same mask from its PNG; soft scores on a 64 × 64 grid → label map beside the two plain ways: all maps upsampled at once, and a loop over
classes that keeps the best. The last row counts label map after label map, as a run does, and says what memory it took from the
hundredth on.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEIGHT, WIDTH, GRID = 480, 640, 64


def main() -> None:
    """Measure each row in its own process, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=171)
    parser.add_argument("--repeat", type=int, default=15, help="runs of which the fastest counts")
    parser.add_argument("--maps", type=int, default=10_000, help="label maps of the last row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="21 classes, one run, 300 maps: a smoke test")
    parser.add_argument("-o", "--output", type=Path, default=None)
    parser.add_argument("--row", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.classes, given.repeat, given.maps = 21, 1, 300
    if given.row is not None:
        print(json.dumps(ROWS[given.row](given)))
        return
    found = {}
    for name in ROWS:
        found[name] = run(name, given)
        print(name, found[name], file=sys.stderr, flush=True)
    text = table(found, given)
    print(text)
    if given.output is not None:
        given.output.write_text(text + "\n", encoding="utf-8")
        given.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def run(name: str, given: argparse.Namespace) -> dict[str, float]:
    sizes = ["--classes", given.classes, "--repeat", given.repeat, "--maps", given.maps, "--threads", given.threads]
    command = [sys.executable, __file__, "--row", name, *map(str, sizes)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held() -> float:
    """Resident memory now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def timed(work: Callable[[], Any], repeat: int) -> dict[str, float]:
    """Fastest seconds after one run that does not count, and MiB above what was there before it."""
    before = peak()
    work()
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds), "mib": peak() - before}


def blobs(classes: int, seed: int) -> Any:
    """A label map of about fifteen classes with curved borders, as masks of COCO-Stuff have them; some pixels ignored."""
    import numpy as np
    from scipy.ndimage import zoom

    from nerveseg.datasets import IGNORE

    rng = np.random.default_rng(seed)
    fields = np.stack([zoom(rng.normal(size=(12, 16)), (HEIGHT / 12, WIDTH / 16), order=3) for _ in range(15)])
    mask = rng.choice(classes, 15, replace=False)[fields.argmax(0)].astype(np.uint16)
    mask[fields.max(0) < 0.5] = IGNORE
    return mask


def reading(given: argparse.Namespace) -> dict[str, float]:
    import numpy as np
    from PIL import Image

    from nerveseg.datasets.base import stored

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        Image.fromarray(blobs(given.classes, 0).astype(np.uint8)).save(path)  # 65535 becomes 255
        return timed(lambda: stored(path), given.repeat * 10)


def counting(given: argparse.Namespace) -> dict[str, float]:
    from nerveseg.bench.confusion import count

    truth, guess = blobs(given.classes, 0), blobs(given.classes, 1)
    guess[guess >= given.classes] = 0
    return timed(lambda: count(truth, guess, given.classes), given.repeat * 10)


def maps_of(classes: int) -> Any:
    import torch

    rows = torch.rand(classes + 1, GRID, GRID, generator=torch.Generator().manual_seed(0)) ** 4
    return rows / rows.sum(0)


def deciding(given: argparse.Namespace) -> dict[str, float]:
    import torch

    from nerveseg.masks.decide import decide

    torch.set_num_threads(given.threads)
    P = maps_of(given.classes)
    with torch.inference_mode():
        return timed(lambda: decide(P, P, (HEIGHT, WIDTH)), given.repeat)


def trusting(given: argparse.Namespace) -> dict[str, float]:
    import torch

    from nerveseg.masks.decide import decide
    from nerveseg.masks.upsample import picked

    torch.set_num_threads(given.threads)
    P = maps_of(given.classes)
    with torch.inference_mode():
        ids = decide(P, P, (HEIGHT, WIDTH))
        return timed(lambda: picked(P[:-1], ids), given.repeat)


def at_once(given: argparse.Namespace) -> dict[str, float]:
    import torch
    from torch.nn.functional import interpolate

    torch.set_num_threads(given.threads)
    P = maps_of(given.classes)[:-1]

    def work() -> Any:
        maps = interpolate(P[None], size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0]
        return (maps / maps.sum(0)).argmax(0)

    with torch.inference_mode():
        return timed(work, given.repeat)


def loop(given: argparse.Namespace) -> dict[str, float]:
    import torch
    from torch.nn.functional import interpolate

    torch.set_num_threads(given.threads)
    P = maps_of(given.classes)[:-1]

    def work() -> Any:
        def shown(index: int) -> Any:
            return interpolate(P[None, index : index + 1], size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0, 0]

        total = torch.zeros(HEIGHT, WIDTH)
        for index in range(len(P)):
            total += shown(index)
        best = torch.full((HEIGHT, WIDTH), -1.0)
        ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
        for index in range(len(P)):
            share = shown(index) / total
            better = share > best
            ids = torch.where(better, index, ids)
            best = torch.where(better, share, best)
        return ids

    with torch.inference_mode():
        return timed(work, given.repeat)


def many(given: argparse.Namespace) -> dict[str, float]:
    from nerveseg.bench.confusion import count, metrics, total

    truths = [blobs(given.classes, seed) for seed in range(8)]
    seen: list[float] = []

    def images() -> Any:
        for number in range(given.maps):
            if number in (100, given.maps - 1):
                seen.append(held())
            yield count(truths[number % 8], truths[number * 3 % 7], given.classes)

    started = time.perf_counter()
    metrics(total(images(), given.classes))
    return {"seconds": (time.perf_counter() - started) / given.maps, "mib": seen[-1] - seen[0]}


ROWS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "reading a mask from its PNG": reading,
    "label map → confusion": counting,
    "soft scores → label map": deciding,
    "… all maps at once": at_once,
    "… a loop over classes": loop,
    "confidence of the label map": trusting,
    "label map after label map": many,
}


def table(found: dict[str, dict[str, float]], given: argparse.Namespace) -> str:
    lines = ["| what | ms | MiB beyond the input |", "|---|---|---|"]
    lines += [f"| {name} | {1e3 * row['seconds']:.1f} | {row['mib']:.0f} |" for name, row in found.items()]
    read, counted = (found[name]["seconds"] for name in ("reading a mask from its PNG", "label map → confusion"))
    ours, plain = (found[name]["seconds"] for name in ("soft scores → label map", "… a loop over classes"))
    said = (
        f"{given.classes} classes, {WIDTH} × {HEIGHT}, scores on {GRID} × {GRID}, threads: {given.threads}, the fastest of {given.repeat} "
        f"runs. Confusion takes {counted / read:.2f} times as long as reading the PNG (wanted: at most 1); a decision {ours / plain:.2f} "
        "times as long as the loop (wanted: at most 0.5 s and 200 MiB). Last row: ms a map, and MiB gained from the 100th to the "
        f"{given.maps}th."
    )
    return "\n".join([*lines, "", said])


if __name__ == "__main__":
    main()
