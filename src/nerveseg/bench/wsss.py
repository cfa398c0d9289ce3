"""Pseudo-masks from image-level labels, to train a segmenter that never saw a mask.

    made = run(PseudoMasks(Job("nerve-iseg", "voc21", "DATA", split="train"), abstain=0.5), "out")

The folder gets ``masks/NAME.png``, a palette image with the data set's ids and 255 where the result is not sure enough; on request
``scores/NAME.safetensors``; ``names.txt``, the classes in the order of the ids; and what every long job leaves. ``metrics.json`` compares
the masks with the true ones, where there are some. Images in which none of the classes is get no mask and are not scored.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt16
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from nerveseg import runs
from nerveseg.bench import image_labels
from nerveseg.bench.confusion import Confusion, count, metrics
from nerveseg.bench.image_labels import Tagger
from nerveseg.bench.job import Job, about, identity
from nerveseg.bench.protocol import protocol
from nerveseg.bench.scored import percent
from nerveseg.bench.words import Asked, background_of
from nerveseg.datasets import IGNORE, DataSet, Item
from nerveseg.datasets.base import Mask
from nerveseg.errors import DataError, OptionError, RunError
from nerveseg.image import LoadedImage
from nerveseg.masks.palette import voc_palette
from nerveseg.recipe import Recipe
from nerveseg.reprs import brief
from nerveseg.runs import plan, results
from nerveseg.runs.atomic_write import writing
from nerveseg.runs.plan import Plan
from nerveseg.runs.worker import Record
from nerveseg.segmenter import Segmenter
from nerveseg.words.prompts import clean
from nerveseg.words.vocabulary import BACKGROUND, Vocabulary
from nerveseg.writers.base import replacing

__all__ = ["KIND", "UNSURE", "Made", "PseudoMasks", "Worker", "ask", "finish", "folder_of", "run"]

KIND = "nerveseg-wsss-1"
"""What ``run.json`` says the folder is."""

UNSURE = 255
"""Value of a pixel that training should leave out."""

_SIZE = 16  # digits of an image's digest that a line keeps


@dataclass(frozen=True)
class PseudoMasks:
    """Which masks are made; plain values, so that it can be sent to another process.

    Attributes:
        job: recipe, data set and split; ``offer`` is not read, since the image's own classes are asked for.
        labels: "masks": the classes of the true mask, and nothing else of it. "tagger": TagCLIP says. Else the path of a file.
        abstain: confidence below which a pixel is left out. Larger: fewer pixels, fewer wrong ones; 0 leaves none out.
        soft: also write every label's share of every pixel, float16.
        score: compare with the true masks. Off: they are not read, unless the labels come from them.
        tagger: recipe whose CLIP tags; None: the job's own where it has one, else "clip".
        tag_threshold: class score above which a class is in the image; None: TagCLIP's, relative to the image's other classes.
    """

    job: Job
    labels: str = "masks"
    abstain: float = 0.0
    soft: bool = False
    score: bool = True
    tagger: str | None = None
    tag_threshold: float | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        for name, value in (("abstain", self.abstain), ("tag_threshold", self.tag_threshold)):
            if value is not None and not 0 <= value <= 1:
                raise OptionError(f"Got {name} = {value}. Accepted is 0 to 1. Choose a value in that range.")

    @property
    def reads_masks(self) -> bool:
        """Whether true masks are needed."""
        return self.score or self.labels == "masks"

    def tagging(self) -> Recipe:
        """The tagger's recipe."""
        own = self.tagger or (self.job.recipe if "clip" in self.job.compose().weights else "clip")
        return image_labels.tagging(own)


@dataclass(frozen=True)
class Made:
    """How a run ended.

    Attributes:
        folder: where the masks are.
        summary: images done now, before, bad, left.
        metrics: what ``metrics.json`` says; None where images are left.
    """

    folder: Path
    summary: runs.Summary
    metrics: Mapping[str, Any] | None

    __repr__ = brief


def folder_of(given: PseudoMasks, out: str | Path) -> Path:
    """``OUT/DATA-SPLIT-RECIPE``."""
    data = given.job.open()
    return Path(out) / f"{data.name}-{data.split}-{given.job.compose().name}"


def run(
    given: PseudoMasks,
    folder: str | Path,
    *,
    engine: str = "local",
    workers: int = 1,
    prefetch: int = 4,
    skip_bad: bool = False,
    said: Callable[[int, int], None] | None = None,
    command: str = "",
    engine_options: Mapping[str, Any] | None = None,
) -> Made:
    """Make the masks, or go on where the folder's run was stopped.

    Args:
        given: which masks.
        folder: of these masks alone, where every worker can write.
        engine: "local" or "ray".
        workers: that share the images, each with its own networks.
        prefetch: images that each reads ahead.
        skip_bad: go on after an image that cannot be used.
        said: called as ``said(done, of)``.
        command: for ``run.json``.
        engine_options: knobs of the engine.

    Raises:
        DataError: images, masks or labels. OptionError, RunError, WeightsNotFound and the other errors of loading.
    """
    data = given.job.open()
    items = data.items[: given.job.limit]
    _check(data, items)
    made = Plan(
        tuple(item.id for item in items),
        {**identity(given.job, data), "kind": KIND, **_identity(given, data, items)},
        about(given.job, command=command, engine=engine, workers=workers, labels=given.labels),
    )
    place = Path(folder)
    summary = runs.run(
        made,
        Worker(given, str(place)),
        place,
        engine=engine,
        workers=workers,
        prefetch=prefetch,
        skip_bad=skip_bad,
        said=said,
        engine_options=engine_options,
    )
    with writing(place / "names.txt") as file:
        file.writelines(f"{'; '.join(dict.fromkeys((label.name, *label.strings)))}\n" for label in data.names.labels)
    return Made(place, summary, finish(place) if summary.left == 0 and summary.done + summary.skipped else None)


def _check(data: DataSet, items: tuple[Item, ...]) -> None:
    if data.classes > UNSURE:
        raise DataError(f"Got {data.classes} classes in {data.name}. Accepted are {UNSURE}: {UNSURE} marks what is left out. Take fewer.")
    owner: dict[str, str] = {}
    for item in items:
        first = owner.setdefault(image_labels.stem(item).casefold(), item.id)
        if first != item.id:
            raise DataError(
                f"Got {first!r} and {item.id!r} of {data.name}, whose masks would have one name. Accepted are images with names of "
                "their own. Rename one."
            )


def _identity(given: PseudoMasks, data: DataSet, items: tuple[Item, ...]) -> dict[str, Any]:
    """What decides the masks beside the job; a file of labels is read, so that a wrong line is told before anything is loaded."""
    same = {"abstain": given.abstain, "soft": given.soft, "score": given.score}
    if given.labels == "masks":
        return {**same, "labels": {"source": "masks"}}
    if given.labels == "tagger":
        recipe = given.tagging()
        weights = image_labels.weights(recipe, offline=given.job.offline).digest
        return {**same, "labels": {"source": "tagger", "recipe": recipe.digest, "weights": weights, "threshold": given.tag_threshold}}
    image_labels.read(given.labels, data, items)
    return {**same, "labels": {"source": "file", "digest": image_labels.digest(given.labels)}}


def ask(data: DataSet, classes: tuple[int, ...], recipe: Recipe) -> Asked:
    """Put the classes that are in an image into words.

    The background's strings are those of the data set's class 0. Where its list says only "background" and the label source has words for
    it in its knobs, as iSeg's prompt does, these are taken. Words that are a label of this image are left out.

    Raises:
        DataError: a background that does not fit the names.
    """
    vocabulary = Vocabulary(tuple(data.names.labels[index] for index in classes))
    if not data.background:
        return Asked(vocabulary, None, np.array(classes, np.uint16))
    words = data.names.labels[0].strings
    own = getattr(recipe.labels.options, "background", "")
    if tuple(words) == (BACKGROUND,) and isinstance(own, str) and own.strip():
        words = tuple(part.strip() for part in own.split(",") if part.strip())
    taken = {clean(string).casefold() for label in vocabulary for string in (label.name, *label.strings)}
    words = tuple(dict.fromkeys(word for word in words if clean(word).casefold() not in taken)) or (BACKGROUND,)
    return Asked(vocabulary, background_of(data, vocabulary, words), np.array([*classes, 0], np.uint16))


@dataclass(eq=False)
class Worker:
    """Makes the masks of images; picklable until `start`."""

    given: PseudoMasks
    folder: str
    _state: dict[str, Any] = field(default_factory=dict, repr=False)

    __repr__ = brief

    def __call__(self) -> Worker:
        """A worker of its own for a process."""
        return Worker(self.given, self.folder)

    def start(self) -> None:
        """Open the data, load the networks."""
        given, job = self.given, self.given.job
        data, segmenter = job.open(), job.load()
        items = data.items[: job.limit]
        known: Mapping[str, tuple[int, ...]] = {}
        tagger: Tagger | None = None
        if given.labels == "tagger":
            tagger = Tagger.load(
                given.tagging(), data, threshold=given.tag_threshold, device=job.device, dtype=job.dtype, offline=job.offline
            )
        elif given.labels != "masks":
            known = image_labels.read(given.labels, data, items)
        for name in ("masks", *(["scores"] if given.soft else [])):
            (Path(self.folder) / name).mkdir(parents=True, exist_ok=True)
        self._state = {
            "data": data, "items": {item.id: item for item in items}, "segmenter": segmenter, "known": known, "tagger": tagger
        }  # fmt: skip

    def read(self, item: str) -> tuple[LoadedImage, Mask | None]:
        """An image, and its mask where it is needed."""
        data, entry = self._state["data"], self._state["items"][item]
        return data.read(entry) if self.given.reads_masks else (data.image(entry), None)

    def work(self, item: str, read: tuple[LoadedImage, Mask | None]) -> Record:
        """Make and write one mask."""
        image, truth = read
        data: DataSet = self._state["data"]
        started = time.perf_counter()
        classes = self._classes(item, image, truth)
        labelled = time.perf_counter()
        line: dict[str, Any] = {"picture": image.sha256[:_SIZE], "size": list(image.size), "labels": list(classes)}
        if truth is not None and self.given.score:
            line["true"] = list(image_labels.from_mask(truth, data))
        if not classes:
            return Record(line, {"labels": labelled - started})
        guess, confidence, scores, ids = self._segment(image, classes, data)
        sure = confidence >= self.given.abstain
        name = image_labels.stem(self._state["items"][item])
        _write(Path(self.folder) / "masks" / f"{name}.png", np.where(sure, guess, UNSURE))
        if self.given.soft:
            names = "; ".join(data.names.names[index] for index in ids)
            with replacing(Path(self.folder) / "scores" / f"{name}.safetensors") as (draft,):
                save_file({"scores": scores.half().contiguous(), "ids": torch.tensor(ids)}, draft, {"names": names})
        line["unsure"] = int((~sure).sum())
        if "true" in line and truth is not None:
            line["confusion"] = count(truth, guess, data.classes).tolist()
            line["sure"] = count(np.where(sure, truth, IGNORE).astype(np.uint16), guess, data.classes).tolist()
        return Record(line, {"labels": labelled - started, "mask": time.perf_counter() - labelled})

    def stop(self) -> None:
        """Let the networks go."""
        self._state.clear()

    def _classes(self, item: str, image: LoadedImage, truth: Mask | None) -> tuple[int, ...]:
        tagger: Tagger | None = self._state["tagger"]
        if tagger is not None:
            return tagger(image)
        if self.given.labels == "masks" and truth is not None:
            return image_labels.from_mask(truth, self._state["data"])
        return self._state["known"][item]

    def _segment(
        self, image: LoadedImage, classes: tuple[int, ...], data: DataSet
    ) -> tuple[UInt16[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[Tensor, "K H W"], list[int]]:
        segmenter: Segmenter = self._state["segmenter"]
        asked = ask(data, classes, segmenter.recipe)
        if len(classes) == 1 and asked.background is None:  # nothing else can be there
            shape = image.size
            return np.full(shape, classes[0], np.uint16), np.ones(shape, np.float32), torch.ones(1, *shape), list(classes)
        result = segmenter(image, asked.vocabulary, background=asked.background)
        scores = result.segmentation_scores if self.given.soft else torch.empty(0, *image.size)
        return asked.guess(result.segmentation.numpy()), result.confidence().numpy(), scores, asked.ids.tolist()


def _write(path: Path, ids: np.ndarray) -> None:
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(voc_palette().tobytes())
    with replacing(path) as (draft,):
        image.save(draft, format="PNG")


@dataclass
class _Sums:
    """What the lines of a run sum up to."""

    classes: int
    images: int = 0
    empty: int = 0
    pixels: int = 0
    unsure: int = 0
    told: int = 0
    true: int = 0
    both: int = 0
    scored: bool = False
    tables: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, line: Mapping[str, Any]) -> None:
        self.images += 1
        self.empty += not line["labels"]
        if "true" in line:
            self.scored = True
            self.told += len(line["labels"])
            self.true += len(line["true"])
            self.both += len({*line["labels"]} & {*line["true"]})
        if line["labels"]:
            self.pixels += line["size"][0] * line["size"][1]
            self.unsure += line["unsure"]
        for part in ("confusion", "sure"):
            table = self.tables.setdefault(part, np.zeros((self.classes, self.classes + 1), np.int64))
            for true, guess, pixels in line.get(part, ()):
                table[true, guess] += pixels


def finish(folder: str | Path) -> dict[str, Any]:
    """Write ``metrics.json``, which follows from the lines of a finished run alone, and give what it says.

    ``miou`` is over the pixels that are not left out, ``miou_all`` over all, as if none were; both under the run's protocol. ``unsure`` is
    the share of pixels that are left out. ``label_precision`` and ``label_recall`` compare the image's labels with those of its mask.

    Raises:
        RunError: the folder of something else, or not finished.
    """
    place = Path(folder)
    found = plan.read(place)
    said = found.identity
    if said.get("kind") != KIND:
        raise RunError(f"Got {folder}, the folder of another kind of job. Accepted is one of `nerveseg bench wsss`. Choose it.")
    with results.understood(place):
        content = _content(place, found, said)
    with writing(place / "metrics.json") as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return content


def _content(place: Path, found: Plan, said: Mapping[str, Any]) -> dict[str, Any]:
    sums = _Sums(int(said["data"]["classes"]))
    for line in results.read(place):
        sums.add(line)
    content: dict[str, Any] = {
        "recipe": said["recipe"]["name"],
        "data": said["data"]["name"],
        "split": said["data"]["split"],
        "protocol": said["data"]["protocol"],
        "names": said["names"]["origin"],
        "labels": said["labels"]["source"],
        "abstain": said["abstain"],
        "pictures": sums.images,
        "without_labels": sums.empty,
        "missing": len(found.mine) - sums.images,
        "unsure": percent(100 * sums.unsure / sums.pixels if sums.pixels else math.nan),
    }
    if sums.scored:
        content |= _scores(sums, said)
    return content


def _scores(sums: _Sums, said: Mapping[str, Any]) -> dict[str, Any]:
    average = protocol(said["data"]["protocol"]).average
    sure, whole = (metrics(Confusion(sums.tables[part]), average) for part in ("sure", "confusion"))
    rows = zip(said["names"]["classes"], sure.iou.tolist(), whole.iou.tolist(), strict=True)
    return {
        "miou": percent(sure.miou),
        "miou_all": percent(whole.miou),
        "pixel_accuracy": percent(sure.pixel_accuracy),
        "pixel_accuracy_all": percent(whole.pixel_accuracy),
        "label_precision": percent(100 * sums.both / sums.told if sums.told else math.nan),
        "label_recall": percent(100 * sums.both / sums.true if sums.true else math.nan),
        "classes": [
            {"id": index, "name": name, "iou": percent(one), "iou_all": percent(other)} for index, (name, one, other) in enumerate(rows)
        ],
    }
