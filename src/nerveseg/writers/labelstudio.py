"""Label Studio: ``tasks.json``, a task an image with its masks as brush run lengths, and ``config.xml``, the labelling setup.

Layout: ``tasks.json``, ``config.xml`` and ``run.json`` in the folder. Masks come as predictions, which people accept or mend, or as
annotations that are done. Objects do not overlap.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from nerveseg.errors import OutputError
from nerveseg.masks.palette import wheel
from nerveseg.parse import from_json
from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.writers import _brush, _collection, _rle
from nerveseg.writers._runs import Objects, each_knob, objects
from nerveseg.writers.base import Reading, check_holds, check_names, reading_back, replacing

__all__ = ["CONFIG", "JOINED", "Options", "finish", "holds", "part", "read", "suffix"]

suffix = ""
JOINED, CONFIG = "tasks.json", "config.xml"
_KINDS = ("predictions", "annotations")
_BUCKETS = ("s3://", "gs://", "azure-blob://")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Options:
    """What is an object, and how Label Studio finds the images."""

    each: str = each_knob("label")
    kind: str = knob(
        "predictions",
        "What the masks are. predictions: proposals, with a score to sort by, that people accept or mend; annotations: done.",
        choices=_KINDS,
        source="Label Studio calls what a model says a prediction",
    )
    prefix: str = knob(
        "/data/local-files/?d=",
        "What stands before each image's path in its task: of local files, a server or a bucket. The path is percent-encoded, but for "
        "s3://, gs:// and azure-blob://.",
        source="Label Studio's local files, below their document root",
    )
    background: bool = knob(
        default=False,
        doc="Also make a mask of the background. False: what has no mask is background.",
        source="a mask that nobody corrects only covers the image",
    )


def holds(labels: int) -> bool:
    """Up to 65535 labels, what a result holds."""
    return labels <= 65535


def part(segmentation: Segmentation, folder: Path, stem: str, options: Options) -> dict[str, Any]:
    """What ``tasks.json`` needs of an image; writes no file of its own."""
    _check(segmentation, folder)
    skip = None if options.background else segmentation.background
    found = objects(segmentation, options.each, skip=skip)
    masks = [
        {"label": label, "packed": base64.b64encode(packed).decode("ascii")}
        for label, packed in zip(found.label.tolist(), _packed(found), strict=True)
    ]
    made = _collection.begin(segmentation, stem, folder=folder)
    made["picture"]["ignored"] = _rle.ignored(segmentation)
    scored = options.kind == "predictions" and segmentation.labels
    score = float(segmentation.confidence().mean()) if scored else None
    return {**made, "masks": masks, "skip": skip, "score": None if score is None else round(score, 4)}


def finish(parts: Iterable[Mapping[str, Any]], folder: Path, options: Options) -> tuple[Path, ...]:
    """Write ``tasks.json``, ``config.xml`` and ``run.json``."""
    common, parts = _collection.joined(parts)
    if common is None:
        return ()
    paths = folder / CONFIG, folder / JOINED, folder / _collection.RUN
    skip: int | None = None
    with replacing(*paths) as (config, joint, note), _collection.JsonListWriter(folder, "pictures") as run:
        with joint.open("w", encoding="utf-8", newline="\n") as file:
            for number, entry in enumerate(parts):
                skip = entry["skip"]
                file.write(("," if number else "[") + "\n" + _collection.line(_task(entry, common, options)))
                run.add("pictures", entry["picture"])
            file.write("\n]\n")
        config.write_text(_config(common, skip), encoding="utf-8", newline="\n")
        run.save(note, {**_collection.run_head(common, "labelstudio"), "skip": skip})
    return paths


def read(folder: str | Path) -> Iterator[tuple[str, Reading]]:
    """Read ids and labels back, in the order they were written.

    Raises:
        ImageError: not what `finish` writes.
    """
    run = _collection.read_run(folder, "labelstudio")
    path = Path(folder) / JOINED
    ids_of = {label["name"]: label["id"] for label in run["labels"]}
    outside = run["ignore_index"] if run["skip"] is None else run["skip"]
    with reading_back(path):
        tasks = from_json(path.read_text(encoding="utf-8"))
        for image, task in zip(run["pictures"], tasks, strict=True):
            size = image["height"], image["width"]
            ids = np.full(size, outside, dtype=np.uint16)
            for region in next(task[kind] for kind in _KINDS if kind in task)[0]["result"]:
                ids[_brush.decode(bytes(region["value"]["rle"]), size)] = ids_of[region["value"]["brushlabels"][0]]
            if image["ignored"] is not None:
                _rle.fill(ids, image["ignored"], run["ignore_index"])
            yield image["stem"], _collection.reading(ids, run, image)


def _check(result: Segmentation, folder: Path) -> None:
    check_holds(sys.modules[__name__], len(result.labels), folder)
    check_names(result, "", folder, blank=False)
    for label in result.labels:
        if _NO_XML.search(label.name):
            raise OutputError(
                f"Got the label {label.name!r} for {folder}. Accepted in this format are names that XML can hold, without control "
                "characters. Rename the label, or choose another format."
            )
    if result.size[0] * result.size[1] > _brush.MOST:
        raise OutputError(
            f"Got an image of {result.size[0]}×{result.size[1]} for {folder}. Accepted are at most {_brush.MOST} pixels in this format. "
            "Cut the image into parts, or choose another format."
        )


def _packed(found: Objects) -> list[bytes]:
    """Label Studio's run lengths of each object."""
    owner = found.painted(np.arange(1, found.label.size + 1)).ravel()
    start = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
    length = np.diff(np.append(start, owner.size))
    order = np.argsort(owner[start], kind="stable")
    bounds = np.searchsorted(owner[start][order], np.arange(1, found.label.size + 2))
    made: list[bytes] = []
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        own = order[first:last]
        edges = np.stack([start[own], start[own] + length[own]], axis=1).ravel()
        made.append(_brush.encode(np.diff(np.concatenate([[0], edges, [owner.size]]))))
    return made


def _task(entry: Mapping[str, Any], common: Mapping[str, Any], options: Options) -> dict[str, Any]:
    image, names = entry["picture"], [label["name"] for label in common["labels"]]
    result = [
        {
            "id": str(number),
            "type": "brushlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": image["width"],
            "original_height": image["height"],
            "image_rotation": 0,
            "value": {"format": "rle", "rle": list(base64.b64decode(mask["packed"])), "brushlabels": [names[mask["label"]]]},
        }
        for number, mask in enumerate(entry["masks"], start=1)
    ]
    held: dict[str, Any] = {"result": result}
    if options.kind == "predictions":
        version = f"nerveseg {common['versions']['nerveseg']} {common['recipe']}".strip()
        held |= {"model_version": version, "score": entry["score"]}
    return {"data": {"image": _address(image["file"], options.prefix)}, options.kind: [held]}


def _address(file: str, prefix: str) -> str:
    """Where the image is: in a bucket by its key as it is, elsewhere as a part of a URL."""
    return prefix + (file if prefix.startswith(_BUCKETS) else quote(file, errors="surrogateescape"))


def _config(common: Mapping[str, Any], skip: int | None) -> str:
    colours = wheel(len(common["labels"]), background=common["background"]).tolist()
    rows = [
        f'    <Label value={_attribute(label["name"])} background="#{"".join(f"{part:02x}" for part in colour)}"/>'
        for label, colour in zip(common["labels"], colours, strict=True)
        if label["id"] != skip
    ]
    head = ["<View>", '  <Image name="image" value="$image" zoom="true"/>', '  <BrushLabels name="label" toName="image">']
    return "\n".join([*head, *rows, "  </BrushLabels>", "</View>"]) + "\n"


def _attribute(name: str) -> str:
    """A name as XML's attribute; whitespace that parsers would change is escaped."""
    return quoteattr(name, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
