"""What the real libraries make of results: each check by name, with the version that passed it.

    python benchmarks/integrations.py

Takes the embedded pair and the bundled scenes. A library that is not installed has a row that says so. FiftyOne needs its database: the
``mongod`` that its package brings, or a server named by FIFTYONE_DATABASE_URI. Where supervision or FiftyOne bring OpenCV along,
run this in an environment of its own.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from nerveseg.integrations import fiftyone as neighbour
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Segmenter, UntrainedWordWarning
from nerveseg.synthetic import bundled

Check = tuple[str, bool]
WORDS = ["cat", "rooster", "hat", "sand", "grass"]


def main() -> None:
    """Run every check and print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    warnings.simplefilter("ignore", UntrainedWordWarning)
    segmenter = Segmenter.from_pretrained("mini")
    scenes = [scene.path for scene in bundled.scenes()]
    results = segmenter(scenes, WORDS, background="auto")
    print("| library | version | check | |\n|---|---|---|---|")
    for name, checks in {"transformers": pipeline, "supervision": detections, "fiftyone": datasets}.items():
        try:
            checked = version(name)
        except PackageNotFoundError:
            print(f"| {name} | – | not installed | – |")
            continue
        for check, good in checks(segmenter, scenes, results):
            print(f"| {name} | {checked} | {check} | {'passed' if good else 'FAILED'} |", flush=True)


def pipeline(_: Segmenter, __: Sequence[Path], results: Sequence[Segmentation]) -> Iterator[Check]:
    """The image-segmentation pipeline of transformers, given our panoptic answer in place of a model's."""
    from transformers.pipelines.image_segmentation import ImageSegmentationPipeline

    for parts in (False, True):
        good = True
        for result in results:
            answer = result.panoptic(parts=parts)
            stand_in = SimpleNamespace(
                image_processor=SimpleNamespace(post_process_panoptic_segmentation=lambda *_, answer=answer, **__: [answer]),
                model=SimpleNamespace(config=SimpleNamespace(id2label=result.id2label)),
            )
            told = ImageSegmentationPipeline.postprocess(stand_in, {"target_size": [result.size]})  # pyright: ignore[reportArgumentType]
            joined = sum(np.asarray(entry["mask"]).astype(int) for entry in told)
            good &= bool((joined == 255).all()) and {entry["label"] for entry in told} == {part["label"] for part in result.segments()}
        yield f"masks of its pipeline cover each scene once, parts={parts}", good


def detections(_: Segmenter, __: Sequence[Path], results: Sequence[Segmentation]) -> Iterator[Check]:
    """The readers, annotators and data sets of supervision."""
    sv = importlib.import_module("supervision")
    for parts in (False, True):
        same = []
        for result in results:
            theirs = sv.Detections.from_transformers(result.panoptic(parts=parts), id2label=result.id2label)
            same.append(theirs[theirs.class_id != result.background] == result.to_supervision(parts=parts))
        yield f"equal to its own reading of panoptic(), parts={parts}", all(same)
    painted = []
    for result in results:
        before, found = np.array(result.image.pixels), result.to_supervision()
        after = sv.MaskAnnotator(opacity=1.0).annotate(before.copy(), found)
        painted.append(not (after != before).any(-1)[~found.mask.any(0)].any())
    yield "its annotator paints the masks and no other pixel", all(painted)
    with tempfile.TemporaryDirectory() as place:
        images = {str(index): np.array(result.image.pixels) for index, result in enumerate(results)}
        for name, image in images.items():
            Image.fromarray(image).save(Path(place) / f"{name}.png")
        paths = {str(Path(place) / f"{name}.png"): results[int(name)].to_supervision(parts=True) for name in images}
        data = sv.DetectionDataset(classes=[*WORDS], images=list(paths), annotations=paths)
        data.as_coco(annotations_path=str(Path(place) / "coco.json"))
        back = sv.DetectionDataset.from_coco(place, str(Path(place) / "coco.json"), force_masks=True)
        yield "its data set writes them as COCO", sum(len(entry) for _, _, entry in back) == sum(map(len, paths.values()))


def datasets(segmenter: Segmenter, scenes: Sequence[Path], results: Sequence[Segmentation]) -> Iterator[Check]:
    """FiftyOne's ``apply_model`` on a data set of its database."""
    fo = importlib.import_module("fiftyone")
    model = neighbour.model(segmenter, WORDS, background="auto")
    expected = {
        str(path): neighbour.mask(r.segmentation.numpy(), len(r.labels), r.background) for path, r in zip(scenes, results, strict=True)
    }
    alone = [model.predict(np.array(result.image.pixels)) for result in results]
    yield (
        "predict gives its Segmentation",
        all(type(one) is fo.Segmentation and np.array_equal(one.mask, mask) for one, mask in zip(alone, expected.values(), strict=True)),
    )
    data = fo.Dataset.from_images([str(path) for path in scenes], overwrite=True, name="nerveseg-neighbours")
    try:
        data.mask_targets["words"] = model.mask_targets
        data.save()
        yield "mask_targets are kept", fo.load_dataset(data.name).mask_targets["words"] == model.mask_targets
        for field, given in {"words": {}, "together": {"batch_size": 3}}.items():
            data.apply_model(model, label_field=field, skip_failures=False, progress=False, **given)
            shown = ", ".join(f"{key}={value}" for key, value in given.items())
            yield f"apply_model({shown})", _equal(data, field, lambda path: expected[path])
        data.apply_model(model, label_field="sure", confidence_thresh=0.8, skip_failures=False, progress=False)
        sure = {str(path): result.abstain(0.8) for path, result in zip(scenes, results, strict=True)}
        yield (
            "apply_model(confidence_thresh=0.8) abstains",
            _equal(data, "sure", lambda path: neighbour.mask(sure[path].segmentation.numpy(), len(WORDS) + 1, len(WORDS))),
        )
        with tempfile.TemporaryDirectory() as place:
            data.apply_model(model, label_field="files", output_dir=place, skip_failures=False, progress=False)
            files = _equal(data, "files", lambda path: expected[path]) and len(list(Path(place).glob("*.png"))) == len(scenes)
            yield "apply_model(output_dir=…) writes masks as PNG", files
        found = data.evaluate_segmentations("together", gt_field="words", mask_targets=model.mask_targets, progress=False)
        yield "evaluate_segmentations of the two is 1", found.metrics()["accuracy"] == 1.0
        parts = alone[0].to_detections(mask_targets=model.mask_targets)
        names = {entry.label for entry in parts.detections}
        yield "to_detections names the labels", names == {part["label"] for part in results[0].segments()} - {"background"}
    finally:
        data.delete()


def _equal(data: Any, field: str, expected: Callable[[str], Any]) -> bool:
    return all(np.array_equal(sample[field].get_mask(), expected(sample.filepath)) for sample in data)


if __name__ == "__main__":
    main()
