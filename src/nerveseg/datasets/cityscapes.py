"""Cityscapes: 19 classes of street scenes, frames of 1024 × 2048 pixels.

The published masks hold all 34 labels (``_labelIds.png``); the field scores train ids (``_labelTrainIds.png``), which users of mmseg have
on disk and `convert` makes from them. The protocol cliper cuts each frame into its left and right half, two items of one pair of files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nerveseg.datasets._layout import advice, files_in, folder_of, need_folder
from nerveseg.datasets._prepare import Archive, Job, Where, below
from nerveseg.datasets.base import IGNORE, PROTOCOLS, Item, stored
from nerveseg.errors import DataError

__all__ = ["archives", "background", "convert", "count", "find", "grey", "protocols", "published", "splits", "unpacked", "values"]

title = "Cityscapes, 19 classes"
url = "https://www.cityscapes-dataset.com/"
licence = "for non-commercial research, after registration"
background = False
count = 19
grey = True
splits = ("val", "train")
protocols = PROTOCOLS

_ACCOUNT = "it takes an account at https://www.cityscapes-dataset.com/downloads/"
_FRAMES, _LABELS = "leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"
archives = (
    Archive(_FRAMES, md5="0a6e97e94b616a514066c9e2adb0c97f", note=f"11 GB; {_ACCOUNT}"),
    Archive(_LABELS, md5="4237c19de34c8a376e9ba46b495d6f66", note=f"241 MB; {_ACCOUNT}"),
)

_TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label id of each train id, in its order; the other labels are not scored."""
_LAST_LABEL = 33

_HEIGHT, _WIDTH = 1024, 2048
_IMAGE, _IDS, _TRAIN = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"


def values(protocol: str) -> dict[int, int]:
    """Train ids as they are; 255, all other labels, is not counted."""
    return {**{index: index for index in range(count)}, 255: IGNORE}


def published(protocol: str) -> dict[str, int]:
    """Frames of each split."""
    return {"val": 500, "train": 2975}


def find(root: Path, split: str, protocol: str) -> tuple[Item, ...]:
    """The frames of a split by city and name; under the protocol cliper two halves of each, left first."""
    home = _home(root)
    frames = _frames(root, home, split)
    masks = home / "gtFine" / split
    if (
        not (masks / frames[0].parent.name / _stem(frames[0], _TRAIN)).is_file()
        and (raw := masks / frames[0].parent.name / _stem(frames[0], _IDS)).is_file()
    ):
        raise DataError(
            f"Got {raw.parent} with label ids and without train ids (*{_TRAIN}). Accepted are train ids, which are made from them. "
            f"{advice('cityscapes', root, split)}."
        )
    return tuple(item for frame in frames for item in _items(frame, masks / frame.parent.name / _stem(frame, _TRAIN), protocol))


def unpacked(root: Path, split: str) -> bool:
    """Whether frames and masks, of one kind or the other, are there."""
    try:
        home = _home(root)
        frames = _frames(root, home, split)
    except DataError:
        return False
    masks = home / "gtFine" / split
    return all(any((masks / frame.parent.name / _stem(frame, ending)).is_file() for ending in (_TRAIN, _IDS)) for frame in frames)


def convert(job: Job) -> None:
    """Take frames and label ids of the split out of the archives, and write the train ids."""
    job.unpack(_FRAMES, below("leftImg8bit", "cityscapes/leftImg8bit", f"{job.split}/"))
    job.unpack(_LABELS, _only_ids(job.split))
    home = _home(job.root)
    raw = files_in(home / "gtFine" / job.split, f"*/*{_IDS}")
    job.masks([(path, path.with_name(path.name.replace(_IDS, _TRAIN))) for path in raw], train_ids, stage="converting label ids")


def train_ids(path: Path) -> NDArray[np.uint8]:
    """Turn a mask of label ids into one of train ids; 255 for labels that are not scored.

    Raises:
        DataError: a value that is no label, or a file that cannot be read.
    """
    labels = stored(path, grey=True)
    if int(labels.max(initial=0)) > _LAST_LABEL:
        raise DataError(
            f"Got {path} with the value {int(labels.max())}. Accepted are label ids from 0 to {_LAST_LABEL}. Take the published file."
        )
    turn = np.full(_LAST_LABEL + 1, 255, np.uint8)
    turn[list(_TRAIN_IDS)] = np.arange(count, dtype=np.uint8)
    return turn[labels]


def _home(root: Path) -> Path:
    return root if (root / "leftImg8bit").is_dir() else folder_of("cityscapes", root, "cityscapes", "Cityscapes")


def _frames(root: Path, home: Path, split: str) -> list[Path]:
    folder = need_folder("cityscapes", root, home / "leftImg8bit" / split, split)
    frames = files_in(folder, f"*/*{_IMAGE}")
    if not frames:
        raise DataError(
            f"Got {folder} without a file CITY/*{_IMAGE}. Accepted are the frames as published. {advice('cityscapes', root, split)}."
        )
    return frames


def _items(frame: Path, mask: Path, protocol: str) -> tuple[Item, ...]:
    name = frame.name.removesuffix(_IMAGE)
    if protocol != "cliper":
        return (Item(name, frame, mask),)
    left, right = (0, 0, _HEIGHT, _WIDTH // 2), (0, _WIDTH // 2, _HEIGHT, _WIDTH)
    return Item(f"{name}-left", frame, mask, left), Item(f"{name}-right", frame, mask, right)


def _stem(frame: Path, ending: str) -> str:
    return frame.name.removesuffix(_IMAGE) + ending


def _only_ids(split: str) -> Where:
    inside = below("gtFine", "cityscapes/gtFine", f"{split}/")
    return lambda name: inside(name) if name.endswith(_IDS) else None
