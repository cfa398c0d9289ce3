"""Big images in tiles: are there seams, and what memory and time does a photo of 6000 × 4000 pixels take?

    python benchmarks/big_images.py seams [--images 60] -o out/seams && python benchmarks/fill.py big-images-seams out/seams.md
    python benchmarks/big_images.py size -o out/size && python benchmarks/fill.py big-images-size out/size.md

``seams``: 4 × 4 scenes of the embedded world side by side, and of that a cut of 384 × 384 pixels at a random place, so that tile borders
fall anywhere in scenes. Labels are the names in it and three that are not. Four ways to label it: tiles without overlap, each by itself;
tiles that overlap, a walk in each, and at every pixel the label of the tile that it lies deepest in; the same with the tiles'
probabilities blended; and one walk over the joined grid. The last three share their networks' passes. A pixel is near a seam when it is at
most 4 pixels from where a way changes tiles: tile borders without overlap, else the middles of overlaps, and, where tiles fade, their
edges, too. The rim of the image is left out. A false border is two pixels side by side with one true label and two labels given; those on
a seam are set beside those on lines that lie alike on the tokens, for labels change between tokens more often than inside them. Images
that are measured are kept in the folder, so a run that was stopped goes on. 95 % intervals are of a bootstrap over images.

``size``: every row runs in a process of its own, so that its peak of resident memory is its own. Scenes are drawn at 160 pixels and
enlarged to 1000.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SCENE, SIDE, TILE, NEAR, ABSENT = 128, 384, 128, 4, 3
UNIT, PHASES = 16, (0, 8)  # pixels of an eighth of a tile, which is a whole number of tokens; where seams lie in it
WAYS = ("tile by tile, no overlap", "tile by tile, overlapping", "tile by tile, blended", "one walk over all tiles")
BIG = (4000, 6000)
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as a whole": ({}, {}),
    "tiles of 1024": ({"tile": 1024}, {}),
    "tiles of 1024, 64 × 64 tokens each": ({"tile": 1024}, {"graph.size": 256, "transition.memory": 2048.0}),
    "tiles of 512": ({"tile": 512}, {}),
}
"""What `Segmenter.encode` is told, and settings of the recipe."""


def main() -> None:
    """Measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("seams", "size"))
    parser.add_argument("--images", type=int, default=60, help="of seams")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="of size: which rows")
    parser.add_argument("--labels", type=int, default=21, help="of size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of what was measured; the table goes beside it as .md")
    parser.add_argument("--row", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row is not None:
        print(json.dumps(big(given)))
        return
    given.output.mkdir(parents=True, exist_ok=True)
    text = seams(given) if given.part == "seams" else size(given)
    given.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


def seams(given: argparse.Namespace) -> str:
    """Measure the images that are not in the folder, and score all."""
    import numpy as np
    import torch

    from nerveseg.segmenter import Segmenter

    torch.set_num_threads(given.threads)
    segmenter = Segmenter.from_pretrained("mini", device="cpu")
    for index in range(given.images):
        path = given.output / f"{index:04d}.npz"
        if not path.exists():
            started = time.perf_counter()
            draft = path.with_suffix(".part.npz")
            np.savez_compressed(draft, **measured(segmenter, index))
            draft.replace(path)
            print(f"{index + 1} of {given.images}, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return seams_table([dict(np.load(given.output / f"{index:04d}.npz")) for index in range(given.images)])


def stitched(index: int) -> tuple[Any, Any]:
    """Image and mask, (SIDE, SIDE)."""
    import numpy as np

    from nerveseg.synthetic import scenes

    per = SIDE // SCENE + 1
    drawn = [scenes.render("test", index * per * per + number, (SCENE, SCENE)) for number in range(per * per)]
    rows = [drawn[at : at + per] for at in range(0, len(drawn), per)]
    image = np.concatenate([np.concatenate([scene.image for scene in row], axis=1) for row in rows])
    mask = np.concatenate([np.concatenate([scene.mask for scene in row], axis=1) for row in rows])
    top, left = np.random.default_rng(index).integers(0, SCENE, 2)
    return image[top : top + SIDE, left : left + SIDE].copy(), mask[top : top + SIDE, left : left + SIDE].copy()


def measured(segmenter: Any, index: int) -> dict[str, Any]:
    """Counts by way: (2, 3, names) near seams and elsewhere, and false borders on seams and on other lines."""
    import numpy as np

    from nerveseg.synthetic.names import NAMES
    from nerveseg.synthetic.score import counted

    image, truth = stitched(index)
    rng = np.random.default_rng(index)
    present = [NAMES[at] for at in np.unique(truth)]
    others = [name for name in NAMES if name not in present]
    names = [str(name) for name in rng.permutation([*present, *rng.choice(others, ABSENT, replace=False)])]
    place = np.array([NAMES.index(name) for name in names])
    found: dict[str, Any] = {}
    for number, (ids, lines) in enumerate(labelled(segmenter, image, names)):
        guess = place[ids]
        near, rim = distances(lines) <= NEAR, np.arange(SIDE)
        close = near[0][:, None] | near[1][None, :]
        inner = (np.minimum(rim, SIDE - 1 - rim) >= 2 * NEAR)[:, None] & (np.minimum(rim, SIDE - 1 - rim) >= 2 * NEAR)[None, :]
        found[f"counts{number}"] = np.stack([counted(guess[part & inner], truth[part & inner]) for part in (close, ~close)])
        found[f"borders{number}"] = false_borders(guess, truth, lines)
    return found


def labelled(segmenter: Any, image: Any, names: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Ids of each way, and the places (down, across) where it changes tiles."""
    import numpy as np
    import torch

    from nerveseg import transition
    from nerveseg.masks.decide import decide
    from nerveseg.words.vocabulary import Vocabulary

    apart = np.zeros((SIDE, SIDE), dtype=np.int64)
    for top, left in itertools.product(range(0, SIDE, TILE), repeat=2):
        area = (slice(top, top + TILE), slice(left, left + TILE))
        apart[area] = segmenter(image[area].copy(), names).segmentation.numpy()
    borders = np.arange(TILE, SIDE, TILE)
    yield apart, (borders, borders)

    encoding = segmenter.encode(image, tile=TILE)
    with torch.inference_mode():
        inside = segmenter.label(encoding, Vocabulary.parse(list(names)))
        heads, recipe = encoding.heads, segmenter.recipe
        places = heads.places
        own = []
        for tile, part in enumerate(heads.tiles):
            G = places.cut(inside.G, tile)
            S = transition.build(part, G, options=recipe.transition, kernel_options=recipe.kernel.options)
            own.append(recipe.walk.module.solve(S, G, recipe.walk.options).probabilities)
        deepest = torch.stack([at_place(places, tile) for tile in range(places.count)]).argmax(0)
        hard = torch.zeros_like(inside.G).view(*places.grid, -1)
        for tile, P in enumerate(own):
            held = deepest[places.area(tile)] == tile
            hard[places.area(tile)][held] = P.view(*places.side, -1)[held]
        middles, edges = seams_of(places, 0), seams_of(places, 1)
        both = tuple(np.union1d(a, b) for a, b in zip(middles, edges, strict=True))
        for P, lines in ((hard.flatten(0, 1), middles), (places.paste(own), both), (inside.P, both)):
            maps, rows = (x.T.unflatten(1, inside.grid) for x in (P, inside.G))
            yield decide(maps, rows, (SIDE, SIDE), rule="argmax").numpy(), lines


def at_place(places: Any, tile: int) -> Any:
    import torch

    out = torch.zeros(places.grid)
    out[places.area(tile)] = places.share(tile)
    return out


def seams_of(places: Any, kind: int) -> tuple[Any, Any]:
    """Pixels, down and across, at which overlaps have their middles (0), or tiles their edges (1)."""
    import numpy as np

    found = []
    for starts, side, cells in zip((places.rows, places.columns), places.side, places.grid, strict=True):
        pairs = list(itertools.pairwise(starts))
        cuts = [(later + first + side) / 2 for first, later in pairs] if kind == 0 else [x for a, b in pairs for x in (b, a + side)]
        found.append(np.unique(np.round(np.array(cuts) * SIDE / cells).astype(int)))
    return found[0], found[1]


def distances(lines: Any) -> Any:
    """(2, SIDE): how far the middle of each pixel is from the nearest line, down and across."""
    import numpy as np

    at = np.arange(SIDE) + 0.5
    return np.stack([np.abs(at[:, None] - own[None, :]).min(1) for own in lines])


def false_borders(guess: Any, truth: Any, lines: Any) -> Any:
    """(phases, 2, 2): on seams and on other lines, pairs with one true label that were given two, and all pairs with one true label."""
    import numpy as np

    found = np.zeros((len(PHASES), 2, 2), dtype=np.int64)
    at = np.arange(1, SIDE)
    for axis, own in enumerate(lines):
        g, t = (np.moveaxis(x, axis, 0) for x in (guess, truth))
        same = t[1:] == t[:-1]
        false = same & (g[1:] != g[:-1])
        for place, phase in enumerate(PHASES):
            alike, seam = at % UNIT == phase, np.isin(at, own)
            for row, part in enumerate((alike & seam, alike & ~seam)):
                found[place, row] += [int(false[part].sum()), int(same[part].sum())]
    return found


def seams_table(found: Sequence[dict[str, Any]]) -> str:
    """A row a way."""
    import numpy as np

    from nerveseg.synthetic.score import Counts, interval, miou

    def parts(way: int, *where: int) -> Counts:
        return Counts(*np.moveaxis(np.stack([one[f"counts{way}"][list(where)].sum(0) for one in found]), 1, 0))

    lines = [
        "| way | mIoU | near seams | elsewhere | near − elsewhere, 95 % | false borders on seams | on other lines | ratio, 95 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, name in enumerate(WAYS):
        whole, near, far = parts(way, 0, 1), parts(way, 0), parts(way, 1)
        low, high = interval(near, far)
        gap = miou(near) - miou(far)
        borders = np.stack([one[f"borders{way}"] for one in found]).astype(float)
        rates, ends = ratio(borders)
        lines.append(
            f"| {name} | {miou(whole):.1f} | {miou(near):.1f} | {miou(far):.1f} | {gap:+.1f} [{low:+.1f}, {high:+.1f}] "
            f"| {1e4 * rates[0]:.0f} | {1e4 * rates[1]:.0f} | {rates[0] / rates[1]:.2f} [{ends[0]:.2f}, {ends[1]:.2f}] |"
        )
    one, last = parts(len(WAYS) - 1, 0, 1), [parts(way, 0, 1) for way in range(len(WAYS) - 1)]
    gains = [f"{miou(one) - miou(other):+.1f} [{low:+.1f}, {high:+.1f}]" for other in last for low, high in (interval(one, other),)]
    said = (
        f"{len(found)} images of {SIDE} × {SIDE} pixels, tiles of {TILE}; false borders in 10,000 pairs. "
        "mIoU of one walk less that of the other ways, in their order: " + ", ".join(gains) + "."
    )
    return "\n".join([*lines, "", said])


def ratio(borders: Any) -> tuple[Any, Any]:
    """False borders a pair on seams and on other lines of their phases, and the 95 % interval of the quotient."""
    import numpy as np

    def rates(counts: Any) -> Any:
        false, pairs = np.moveaxis(counts, -1, 0)
        usual = false[..., 1] / np.maximum(pairs[..., 1], 1)
        return false[..., 0].sum(-1) / pairs[..., 0].sum(-1), (usual * pairs[..., 0]).sum(-1) / pairs[..., 0].sum(-1)

    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(borders), np.full(len(borders), 1 / len(borders)), size=2000).astype(float)
    on, off = rates(np.tensordot(weights, borders, 1))
    return rates(borders.sum(0)), np.percentile(on / off, (2.5, 97.5))


def size(given: argparse.Namespace) -> str:
    """A row a way to see the image."""
    found = {}
    for name in given.rows:
        path = given.output / f"{list(ROWS).index(name)}.json"
        if not path.exists():
            told = ["size", "--labels", given.labels, "--threads", given.threads, "-o", given.output, "--row", name]
            made = subprocess.run([sys.executable, __file__, *map(str, told)], capture_output=True, text=True, check=True)
            path.write_text(made.stdout.splitlines()[-1] + "\n", encoding="utf-8")
        found[name] = json.loads(path.read_text("utf-8"))
        print(name, found[name], file=sys.stderr, flush=True)
    lines = [
        "| the networks see | tiles | tokens | encoding MiB | S MiB | steps | encode s | transition s | walk s | decide s | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        numbers = (row[key] for key in ("tiles", "tokens", "encoding", "S", "steps"))
        seconds = (row[key] for key in ("encode", "transition", "walk", "decide"))
        lines.append(
            f"| {name} | {' | '.join(f'{x:,.0f}' for x in numbers)} | {' | '.join(f'{x:.1f}' for x in seconds)} | {row['peak']:,.0f} |"
        )
    said = (
        f"{BIG[1]} × {BIG[0]} pixels, {given.labels} labels, the embedded pair, float32, threads: {given.threads}; the peak is of resident "
        "memory, networks and writing included."
    )
    return "\n".join([*lines, "", said])


def big(given: argparse.Namespace) -> dict[str, float]:
    """Label the image once, write it, and say what it took."""
    import tempfile

    import torch

    from nerveseg.image import load_image
    from nerveseg.segmenter import Segmenter
    from nerveseg.synthetic.names import NAMES

    torch.set_num_threads(given.threads)
    told, settings = ROWS[given.row]
    segmenter = Segmenter.from_pretrained("mini", device="cpu", settings=settings)
    kept: list[float] = []
    image = load_image(photo())
    started = time.perf_counter()
    encoding = segmenter.encode(image, **told)
    encode = time.perf_counter() - started
    build = segmenter_build(kept)
    result = segmenter.decode(encoding, list(NAMES[: given.labels]))
    build()
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "ids.png")
    seconds = result.seconds
    return {
        "tiles": len(getattr(encoding.heads, "tiles", (1,))),
        "tokens": encoding.heads.n,
        "encoding": encoding.bytes / 2**20,
        "S": kept[-1] / 2**20,
        "steps": result.walk.steps,
        "encode": encode,
        **{name: seconds[name] for name in ("transition", "walk", "decide")},
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def segmenter_build(kept: list[float]) -> Any:
    """Note the bytes of every transition that is built, until the function that is returned is called."""
    from nerveseg import transition

    plain = transition.build

    def noted(*given: Any, **named: Any) -> Any:
        S = plain(*given, **named)
        kept.append(float(S.bytes))
        return S

    transition.build = noted
    return lambda: setattr(transition, "build", plain)


def photo() -> Any:
    """Scenes of 160 × 160, enlarged to 1000 × 1000, side by side."""
    import numpy as np
    from PIL import Image

    from nerveseg.synthetic import scenes

    out = Image.new("RGB", (BIG[1], BIG[0]))
    for number, (top, left) in enumerate(itertools.product(range(0, BIG[0], 1000), range(0, BIG[1], 1000))):
        scene = Image.fromarray(np.asarray(scenes.render("test", number, (160, 160)).image))
        out.paste(scene.resize((1000, 1000), Image.Resampling.BICUBIC), (left, top))
    return out


if __name__ == "__main__":
    main()
