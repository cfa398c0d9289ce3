"""Whether `mini` says of photographs that it knows drawn scenes only, and says nothing of its scenes.

    pip download scikit-image==0.26.0 --no-deps -d wheel && unzip wheel/*.whl 'skimage/data/*' -d wheel
    python benchmarks/photographs.py wheel/skimage/data [FOLDER …] [--scenes 500] [--sizes 0,320,160,96]

Each image of the folders is looked at as it is (0) and at short sides of 320, 160 and 96 pixels; scenes are those of the test split.
What is measured is what `Segmenter.encode` does; no network runs. Exits 1 where an image of the list below, or a scene, is told wrongly.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

LISTED = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png", "grass.png"),
    *("gravel.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png"),
    *("page.png", "retina.jpg", "rocket.jpg", "text.png"),
)
"""Photographs and scans in scikit-image's wheel."""


def main() -> int:
    """Print a line an image, and what was told wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--sizes", default="0,320,160,96")
    asked = parser.parse_args()
    from nerveseg.backbones import familiar
    from nerveseg.image import load_image
    from nerveseg.synthetic import scenes
    from nerveseg.weights.locate import locate

    known = familiar.of_folders([locate("embedded:clip", offline=True).path])
    if known is None:
        print("Got embedded weights without images.safetensors.", file=sys.stderr)
        return 1
    sizes = [int(size) for size in asked.sizes.split(",")]
    files = sorted(path for folder in asked.folders for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".jpeg"))
    wrong: list[str] = []
    print(f"bound {known.bound:.3f}")
    for path in files:
        pil_image = load_image(path).to_pil()
        found = []
        for size in sizes:
            scale = size / min(pil_image.size) if size else 1.0
            shape = (max(1, round(pil_image.width * scale)), max(1, round(pil_image.height * scale)))
            found.append(known.distance(load_image(pil_image.resize(shape, Image.Resampling.LANCZOS) if size else pil_image)))
        told = [distance > known.bound for distance in found]
        if not all(told) and path.name in LISTED:
            wrong.append(path.name)
        print(f"{path.name:28} {' '.join(f'{distance:6.2f}' for distance in found)}  {'' if all(told) else 'missed'}")
    missing = set(LISTED) - {path.name for path in files}
    distances = [known.distance(load_image(Image.fromarray(scenes.render("test", index).image))) for index in range(asked.scenes)]
    false = sum(distance > known.bound for distance in distances)
    print(f"scenes: {false} of {len(distances)} told of, the furthest {max(distances):.3f}")
    print(f"photographs: {len(files)}; of the list missed: {', '.join(wrong) or 'none'}, not there: {', '.join(sorted(missing)) or 'none'}")
    return int(bool(wrong or false or missing))


if __name__ == "__main__":
    sys.exit(main())
