"""Whether other programs read what the writers write: every pixel's label, by each program's own functions, in an environment of its own.

    python benchmarks/readers.py write out/readers                           # here: the results of tests/writers/test_verified.py
    pip install label-studio-sdk==2.1.2 label-studio-converter==0.0.59       # each in a new environment, without nerveseg
    python benchmarks/readers.py labelstudio out/readers
    pip install supervision==0.31.2;    python benchmarks/readers.py supervision out/readers
    pip install ultralytics==8.4.190;   python benchmarks/readers.py ultralytics out/readers
    pip install tifffile==2026.3.3;     python benchmarks/readers.py geotiff out/readers
    pip install safetensors numpy;      python benchmarks/readers.py scores out/readers

Prints a line a folder; stops at the first pixel that is not as it was meant.
"""

from __future__ import annotations

import argparse
import html
import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

_BACKGROUND = 5
_NAMES = ("cat", "naïve 🐈", "猫", "a/b", "x, y", "background")
_FOLDERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "labelstudio": ("labelstudio", {}),
    "labelstudio-done": ("labelstudio", {"each": "part", "kind": "annotations"}),
    "yolo": ("yolo", {"images": True}),
    "yolo-all": ("yolo", {"images": True, "background": True}),
    "yolo-edges": ("yolo", {"images": True, "outline": "edges"}),
}


def write(folder: Path) -> None:
    """Write all folders, a GeoTIFF of an image in London and scores; and the ids that are meant."""
    import rasterio
    import torch

    from nerveseg.image import load_image
    from nerveseg.segmentation import Segmentation
    from nerveseg.writers import save_all

    spec = importlib.util.spec_from_file_location("verified", Path(__file__).parents[1] / "tests/writers/test_verified.py")
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    results = list(cases.results(least=10))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "ids.npz", **{stem.replace("/", "~"): result.segmentation.numpy() for stem, result in results})
    for name, (format_, options) in _FOLDERS.items():
        save_all(results, folder / name, format_, **options)
    (_, first), *_ = results
    place = {"crs": "EPSG:27700", "transform": rasterio.Affine(0.5, 0, 530000, 0, -0.5, 180000)}
    with rasterio.open(folder / "in.tif", "w", driver="GTiff", width=18, height=12, count=3, dtype="uint8", **place) as out:
        out.write(np.zeros((3, 12, 18), np.uint8))
    placed = Segmentation(first.segmentation, first.probabilities, first.labels, load_image(folder / "in.tif"), background=_BACKGROUND)
    placed.save(folder / "out.tif")
    values = torch.rand(6, 12, 18, generator=torch.Generator().manual_seed(0))
    soft = Segmentation(first.segmentation, values / values.sum(0), first.labels, first.image, background=_BACKGROUND)
    soft.save(folder / "out.scores.safetensors")
    np.save(folder / "scores.npy", soft.segmentation_scores.half().numpy())
    from scipy import ndimage

    random = np.random.default_rng(0)
    ids = np.argmax([ndimage.gaussian_filter(random.standard_normal((480, 640)), 12) for _ in range(6)], axis=0)
    np.save(folder / "blobs.npy", ids)
    image = load_image(np.zeros((480, 640, 3), np.uint8))
    for outline in ("pixels", "edges"):
        blobs = Segmentation(torch.from_numpy(ids), first.probabilities, first.labels, image)
        save_all([("a", blobs)], folder / f"blobs-{outline}", "yolo", outline=outline)


def meant(folder: Path, most: int = _BACKGROUND) -> dict[str, np.ndarray]:
    """The ids by image; -1 where there is none below ``most``."""
    with np.load(folder / "ids.npz") as held:
        return {name.replace("~", "/"): np.where(held[name] >= most, -1, held[name]) for name in held.files}


def check(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Stop where they differ."""
    wrong = int((found != expected).sum())
    if wrong:
        raise SystemExit(f"{what}: {wrong} of {expected.size} are wrong")


def labelstudio(folder: Path) -> None:
    """Both brush decoders, the setup's own check, the PNG and NumPy exports, and the encoder: the same bytes."""
    import label_studio_converter.brush as old
    import label_studio_sdk.converter.brush as new
    from label_studio_sdk.label_interface import LabelInterface

    for name, kind in (("labelstudio", "predictions"), ("labelstudio-done", "annotations")):
        setup = (folder / name / "config.xml").read_text("utf-8")
        interface = LabelInterface(setup)
        assert [control.labels for control in interface.controls] == [list(_NAMES[:_BACKGROUND])]
        tasks = json.loads((folder / name / "tasks.json").read_text("utf-8"))
        for task, (stem, expected) in zip(tasks, meant(folder).items(), strict=True):
            (held,) = task[kind]
            assert interface.validate_prediction(held) if kind == "predictions" else interface.validate_annotation(held)
            for brush in (old, new):
                found = np.full(expected.shape, -1)
                for region in held["result"]:
                    packed = region["value"]["rle"]
                    mask = brush.decode_rle(packed).reshape(*expected.shape, 4)
                    assert brush.encode_rle(mask.ravel()) in (packed, [*packed, 0])
                    found[mask[:, :, 3] > 0] = _NAMES.index(region["value"]["brushlabels"][0])
                check(found, expected, f"{name}/{stem} by {brush.__name__}")
        print(f"{name}: {len(tasks)} tasks are valid, the decoders give every pixel, the encoder the same bytes")
    _export(folder / "labelstudio-done", setup, meant(folder))


def _export(folder: Path, setup: str, expected: Mapping[str, np.ndarray]) -> None:
    """Label Studio's export of annotations as PNG and NumPy: a file a part, names as it spells them."""
    from label_studio_sdk.converter import Converter
    from PIL import Image

    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    for number, task in enumerate(tasks):  # what its database adds
        task["id"] = number
        task["annotations"][0] |= {"id": 1, "completed_by": 1}
    spelled = [name.replace("/", "-") for name in _NAMES]
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "in.json").write_text(json.dumps(tasks), "utf-8")
        for kind, ending in (("BRUSH_TO_PNG", "png"), ("BRUSH_TO_NUMPY", "npy")):
            out = Path(place) / ending
            out.mkdir()
            converter = Converter(config=setup, project_dir=None, download_resources=False)
            converter.convert(str(Path(place) / "in.json"), str(out), kind, is_dir=False)
            for number, (stem, ids) in enumerate(expected.items()):
                found = np.full(ids.shape, -1)
                for path in out.glob(f"task-{number}-annotation-*"):
                    mask = np.load(path) if ending == "npy" else np.asarray(Image.open(path))
                    found[mask > 0] = spelled.index(path.stem.split("-label-")[1].rpartition("-")[0])
                check(found, ids, f"{stem} exported as {kind}")
            print(f"{folder.name}: exported as {kind}, every pixel")


def _yolo(folder: Path, reader: Callable[[Path, str], Iterator[np.ndarray]]) -> None:
    for name in ("yolo", "yolo-all", "yolo-edges"):
        expected = meant(folder, 6 if name == "yolo-all" else _BACKGROUND)
        wrong = 0
        for stem, ids in expected.items():
            found = np.full(ids.shape, -1)
            for number, mask in reader(folder / name, stem):
                found[mask] = number
            wrong += int((found != ids).sum())
            if name != "yolo-edges":
                check(found, ids, f"{name}/{stem}")
        print(f"{name}: {wrong} of {sum(ids.size for ids in expected.values())} pixels are wrong")


def supervision(folder: Path) -> None:
    """``DetectionDataset.from_yolo`` with masks; objects in the order of the file."""
    import supervision

    def masks(place: Path, stem: str) -> Iterator[tuple[int, np.ndarray]]:
        sub = str(Path(stem).parent)
        held = supervision.DetectionDataset.from_yolo(
            str(place / "images" / sub), str(place / "labels" / sub), str(place / "data.yaml"), force_masks=True
        )
        assert held.classes == list(_NAMES[: 6 if place.name == "yolo-all" else 5])
        for path, _, found in held:
            if Path(path).stem == Path(stem).name and found.mask is not None:
                yield from zip(found.class_id.tolist(), found.mask, strict=True)

    _yolo(folder, masks)


def ultralytics(folder: Path) -> None:
    """The checks of a data set and of a label file, the instances as a trainer makes them, and its masks, larger below smaller."""
    from ultralytics.data.utils import check_det_dataset, img2label_paths, polygons2masks_overlap, verify_image_label
    from ultralytics.utils.instance import Instances

    def masks(place: Path, stem: str) -> Iterator[tuple[int, np.ndarray]]:
        names = check_det_dataset(str(place / "data.yaml"))["names"]
        assert names == dict(enumerate(_NAMES[: len(names)]))
        image = str(place / "images" / f"{stem}.jpg")
        (label,) = img2label_paths([image])
        told = verify_image_label((image, label, "", False, len(names), 0, 0, False))
        _, boxes, (height, width), segments, _, _, known, _, corrupt, message = told
        assert (known, corrupt, message) == (1, 0, ""), message
        if not segments:
            return
        longest = max(len(segment) for segment in segments)
        padded = np.stack([np.concatenate([segment, segment[-1:].repeat(longest - len(segment), 0)]) for segment in segments])
        instances = Instances(boxes[:, 1:], padded, bbox_format="xywh", normalized=True)
        instances.denormalize(width, height)
        overlap, order = polygons2masks_overlap((height, width), list(instances.segments), 1)
        for number in range(1, int(overlap.max()) + 1):
            yield int(boxes[order[number - 1], 0]), overlap == number

    _yolo(folder, masks)
    _sizes(folder)


def _sizes(folder: Path) -> None:
    """Mean IoU of blobs with their map where polygons are painted at other sizes than the image's own."""
    from ultralytics.data.utils import polygons2masks_overlap

    ids, shares = np.load(folder / "blobs.npy"), (0.25, 0.5, 1, 1.5, 2)
    print("| read at | " + " | ".join(map(str, shares)) + " |\n|---|" + "---|" * len(shares))
    for outline in ("pixels", "edges"):
        lines = [line.split() for line in (folder / f"blobs-{outline}/labels/a.txt").read_text().splitlines()]
        row = []
        for share in shares:
            size = [int(side * share) for side in ids.shape]
            rows, columns = (((np.arange(side) + 0.5) / share).astype(int) for side in size)
            expected = ids[rows[:, None], columns]
            polygons = [np.array(line[1:], np.float32).reshape(-1, 2) * np.array(size[::-1], np.float32) for line in lines]
            overlap, order = polygons2masks_overlap(tuple(size), polygons, 1)
            found = np.append(-1, np.array([int(line[0]) for line in lines])[order])[overlap]
            each = [((found == label) & (expected == label)).sum() / ((found == label) | (expected == label)).sum() for label in range(6)]
            row.append(f"{100 * np.mean(each):.1f}")
        print(f"| `{outline}` | " + " | ".join(row) + " |")


def geotiff(folder: Path) -> None:
    """Tifffile, which reads GeoTIFF's keys without GDAL."""
    from tifffile import TiffFile

    with TiffFile(folder / "out.tif") as held, TiffFile(folder / "in.tif") as source:
        page, told = held.pages.first, held.geotiff_metadata
        check(page.asarray(), np.load(folder / "ids.npz")["holes"], "out.tif")
        assert told == source.geotiff_metadata
        assert int(told["ProjectedCSTypeGeoKey"]) == 27700
        assert (told["ModelPixelScale"][:2], told["ModelTiepoint"][3:5]) == ([0.5, 0.5], [530000.0, 180000.0])
        assert page.nodata == 255
        assert page.colormap.shape == (3, 256)
        items = ElementTree.fromstring(held.gdal_metadata).iter("Item")
        (names,) = [item.text for item in items if item.get("name") == "NERVESEG_LABELS"]
        assert json.loads(html.unescape(names)) == list(_NAMES)  # GDAL escapes twice
    print("out.tif: every pixel, the place, the colours and the names")


def scores(folder: Path) -> None:
    """Safetensors' own reader."""
    from safetensors import safe_open

    with safe_open(folder / "out.scores.safetensors", framework="np") as held:
        check(held.get_tensor("scores"), np.load(folder / "scores.npy"), "scores")
        assert json.loads(held.metadata()["labels"]) == list(_NAMES)
    print("out.scores.safetensors: every score and the names")


def main() -> None:
    """Write, or read with one program."""
    known = {call.__name__: call for call in (write, labelstudio, supervision, ultralytics, geotiff, scores)}
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=known)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    known[given.what](given.folder.absolute())


if __name__ == "__main__":
    main()
